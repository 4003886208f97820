"""The cursor of a list that is read from tables: the time and the id of a page's last item, as a URL carries them."""

import base64
import binascii
from datetime import UTC, datetime
from typing import Any

import msgspec


def make_cursor(at: datetime, item_id: str) -> str:
    """Return a cursor: the time and the id of the last item of a page, by which the list is in order."""
    content = msgspec.json.encode((at.astimezone(UTC).isoformat(), item_id))
    return base64.urlsafe_b64encode(content).decode().rstrip("=")


def parse_cursor(text: str) -> tuple[datetime, str]:
    """Return the time and the id of a cursor. Raise ValueError."""
    try:
        content: Any = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
        time, item_id = msgspec.json.decode(content, type=tuple[str, str])
        at = datetime.fromisoformat(time).astimezone(UTC)
    except (binascii.Error, ValueError, OverflowError, msgspec.MsgspecError) as exc:
        raise ValueError("not a cursor") from exc
    if "\0" in item_id:  # which no database takes, and no answer had
        raise ValueError("not a cursor")
    return at, item_id
