"""Durations, sizes, rates and numbers as people read them, with units and few digits."""

from typing import Final

from shared.counted import counted

UNKNOWN: Final = "\u2013"

_BINARY: Final = ("bytes", "KiB", "MiB", "GiB", "TiB")
_FEW: Final = 10


def format_duration(seconds: float | None) -> str:
    """Return "3.2 ms", "1.4 s", "5 min", "2 h 10 min" or "3 d 4 h"; a dash for None."""
    if seconds is None:
        return UNKNOWN
    if seconds < 1:
        return f"{_digits(seconds * 1000)} ms" if seconds else "0 s"
    if seconds < 60:  # noqa: PLR2004 # of time, these numbers have their names
        return f"{_digits(seconds)} s"
    minutes, hours, days = seconds // 60, seconds // 3600, seconds // 86400
    if not hours:
        return f"{minutes:.0f} min"
    if not days:
        return f"{hours:.0f} h {minutes % 60:.0f} min"
    return f"{days:.0f} d {hours % 24:.0f} h"


def format_age(seconds: float) -> str:
    """Return "just now" or "12 s ago"."""
    return f"{format_duration(int(seconds))} ago" if seconds >= 1 else "just now"


def format_size(number: int) -> str:
    """Return "512 bytes", "1.2 MiB" or "34 GiB"."""
    value, unit = float(number), 0
    while value >= 1024 and unit < len(_BINARY) - 1:  # noqa: PLR2004 # KiB
        value, unit = value / 1024, unit + 1
    return f"{_digits(value)} {_BINARY[unit]}" if unit else counted(number, "byte")


def format_rate(per_second: float) -> str:
    """Return "0.3", "4.7" or "1,250"; a rate that rounds to zero is "below 0.1"."""
    return "below 0.1" if 0 < per_second < 0.05 else _digits(per_second)  # noqa: PLR2004 # what rounds to nothing


def format_number(number: int) -> str:
    """Return "1,234,567"."""
    return f"{number:,}"


def _digits(value: float) -> str:
    return f"{value:,.1f}".removesuffix(".0") if value < _FEW else f"{value:,.0f}"
