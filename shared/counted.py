"""A number with its noun, as every text for people has it: "1 event", "2,000 events"."""


def counted(number: int, one: str, many: str = "") -> str:
    """Return "1 job" or "1,200 jobs". `many` is the plural, if it is not `one` with an s."""
    return f"{number:,} {one if number == 1 else many or f'{one}s'}"
