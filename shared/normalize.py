"""What the values of a record mean, however they are written: absent, numbers as text, senders, units of time."""

from typing import Final

from shared.schema import Record, ReplyCallback

_YEAR_1_MS: Final = -62_135_596_800_000


def text(value: str | int | None) -> str | None:
    """Return an optional text as the events carry it: absent, null and "" are None, a number is its digits."""
    return None if value is None or value == "" else str(value)


def known(value: str | int | None, names: frozenset[str]) -> str | None:
    """Return a name as the specification writes it, if it is one of `names` but for case and blanks; else as it is."""
    given = text(value)
    if given is None:
        return None
    name = given.strip().upper()
    return name if name in names else given


def integer(value: int | str | None) -> int | None:
    """Return an optional integer, which may be given as digits in a string."""
    return None if value is None or value == "" else int(value)


def sender(record: Record | ReplyCallback) -> str | None:
    """Return who sent it: `from`, or `sms_from` or `viber_from` as the sibling pages have it."""
    return text(record.from_) or text(record.sms_from) or text(record.viber_from)


def unix_ms(record: Record | ReplyCallback) -> int | None:
    """Return when it happened, in milliseconds since 1970, from the finer of its two times; None if it has none.

    Zero is not a time: senders write it for "unknown". Neither is a time before the year 1, which no calendar of ours
    holds. The other time then counts.
    """
    fine = _unix_ms(record.micro_timestamp)
    return _unix_ms(record.timestamp) if fine is None else fine


def _unix_ms(given: int | str | None) -> int | None:
    """Return a time in milliseconds, whatever its unit; None if it is not a time.

    The specification has seconds and milliseconds, its sibling page milliseconds and microseconds. The size decides.
    10^11 seconds is the year 5138, and 10^11 milliseconds is March 1973.
    """
    value = integer(given)
    if not value:
        return None
    size = abs(value)
    if size < 10**11:
        value *= 1000
    elif size >= 10**14:
        value //= 1000
    return value if value >= _YEAR_1_MS else None
