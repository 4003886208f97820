"""The kinds of parameters that several operations of `/api` take: times, cursors, numbers."""

from datetime import datetime
from typing import Annotated, Final, TypeAlias

from msgspec import Meta

from callbacks.ops.api import problems
from callbacks.ops.status import table_cursor
from shared.ages import parse_moment
from workers.admin.message_forms import Numbers

_AGE: Final = {"type": "string", "pattern": "^[0-9]{1,4}[smhdw]$"}
_TIME: Final = {"type": "string", "format": "date-time"}
# A cursor holds a time and an id of at most 400 characters, in base64.
_CURSOR_CHARACTERS: Final = 2500

Since: TypeAlias = Annotated[
    str,
    Meta(description="An age (90s, 30m, 2h, 7d, 4w) or a time (RFC 3339).", extra_json_schema={"anyOf": [_AGE, _TIME]}),
]
CursorText: TypeAlias = Annotated[
    str, Meta(max_length=_CURSOR_CHARACTERS, description="`next_cursor` of the page before.")
]
Limit: TypeAlias = Annotated[int, Meta(ge=1, le=500, description="At most this many.")]
Text: TypeAlias = Annotated[str, Meta(max_length=300)]
ShownNumbers: TypeAlias = Annotated[
    Numbers, Meta(description="`full` needs a token with the role act, and is noted in the action log.")
]


def parse_since(text: str) -> datetime:
    """Return the time in UTC. Raise ApiProblem."""
    try:
        return parse_moment(text, is_rfc3339=True)
    except ValueError:
        raise problems.bad_parameter("since must be an age (90s, 30m, 2h, 7d, 4w) or a time (RFC 3339).") from None


def parse_cursor(text: str | None) -> tuple[datetime, str] | None:
    """Return the time and the id of a cursor; None for None. Raise ApiProblem."""
    try:
        return None if text is None else table_cursor.parse_cursor(text)
    except ValueError:
        raise problems.bad_parameter("cursor must be the next_cursor of an answer; without it a list begins.") from None
