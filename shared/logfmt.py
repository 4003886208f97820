"""Fields as text: logfmt (`key=value key="value with blanks"`), which Loki, Vector and other collectors read.

A quoted value is a JSON string, as the readers in Go have it. structlog's LogfmtRenderer leaves carriage returns and
other control characters as they are, so one value could make two lines.
"""

import json
import re
from collections.abc import Mapping
from typing import Any, Final

# What needs no quotes: no blank, control character, quote, equals sign, backslash or half of a surrogate pair.
_BARE: Final = re.compile(r"""[^\s"=\\\x00-\x1f\x7f-\x9f\ud800-\udfff]+""")
_NOT_IN_KEY: Final = re.compile(r"""[\s"=\\\x00-\x1f\x7f-\x9f\ud800-\udfff]""")
# What JSON may leave as it is, and what yet ends a line somewhere, or cannot be written.
_UNSAFE_IN_JSON: Final = re.compile("[\x7f-\x9f\u2028\u2029\ud800-\udfff]")


def format_fields(fields: Mapping[str, Any]) -> str:
    """Return the fields in logfmt, on one line. A field that is None is left out."""
    return " ".join(
        f"{_NOT_IN_KEY.sub('_', key)}={_format(value)}" for key, value in fields.items() if value is not None
    )


def escape_line_ends(text: str) -> str:
    """Return a JSON text in which no character ends a line, and each can be written as UTF-8."""
    return _UNSAFE_IN_JSON.sub(lambda found: f"\\u{ord(found.group()):04x}", text)


def _format(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    text = str(value)
    return text if _BARE.fullmatch(text) else escape_line_ends(json.dumps(text, ensure_ascii=False))
