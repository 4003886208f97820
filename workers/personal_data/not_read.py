"""What of a store cannot be read now: how many items, and why, which says what to do. None of them is a match."""

from collections import Counter

from shared.counted import counted


class NotRead:
    """Counts items of a store that cannot be read; `unit` is what one of them is, such as "job"."""

    def __init__(self, unit: str) -> None:
        self._unit = unit
        self._causes: Counter[str] = Counter()

    def __len__(self) -> int:
        return self._causes.total()

    def add(self, why: Exception | bytes) -> None:
        """Count one item: the error that reading it raised, or its text."""
        self._causes[why.decode(errors="replace") if isinstance(why, bytes) else str(why)] += 1

    @property
    def why(self) -> str:
        """How many could not be read, for each cause; empty if all could be."""
        return "; ".join(f"{counted(number, self._unit)} not read: {cause}" for cause, number in self._causes.items())
