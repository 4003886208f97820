"""Fields as text: logfmt (`key=value key="value with blanks"`), which Loki, Vector and other collectors read.

A quoted value is a JSON string, as the readers in Go have it. structlog's LogfmtRenderer leaves carriage returns and
other control characters as they are, so one value could make two lines.
"""

import json
import re
from collections.abc import Mapping
from typing import Any, Final

# Characters that change the direction of what follows them, and so what a reader sees.
_DIRECTIONS: Final = r"\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"
# What needs quotes: a blank, control character, quote, equals sign, backslash, direction or half of a surrogate pair.
_SPECIAL: Final = rf"""\s"=\\\x00-\x1f\x7f-\x9f\ud800-\udfff{_DIRECTIONS}"""
_BARE: Final = re.compile(f"[^{_SPECIAL}]+")
_NOT_IN_KEY: Final = re.compile(f"[{_SPECIAL}]")
# What JSON may leave as it is, and what yet ends a line somewhere, cannot be written or misleads.
_UNSAFE_IN_JSON: Final = re.compile(rf"[\x7f-\x9f\u2028\u2029\ud800-\udfff{_DIRECTIONS}]")


def format_fields(fields: Mapping[str, Any]) -> str:
    """Return the fields in logfmt, on one line. A field that is None is left out."""
    return " ".join(
        f"{_NOT_IN_KEY.sub('_', key)}={_format(value)}" for key, value in fields.items() if value is not None
    )


def escape_line_ends(text: str) -> str:
    """Return a JSON text in which no character ends or turns a line, and each can be written as UTF-8."""
    return _UNSAFE_IN_JSON.sub(lambda found: f"\\u{ord(found.group()):04x}", text)


def _format(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    text = str(value)
    return text if _BARE.fullmatch(text) else escape_line_ends(json.dumps(text, ensure_ascii=False))
