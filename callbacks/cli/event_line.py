"""An event on one line for people, and the forms in which people write statuses."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

import click

from callbacks.cli.terminal_text import printable

# With the rest of the line this fits on one or two rows of a terminal; a reply may have thousands of characters.
_MAX_CHARACTERS: Final = 120
COLOURS: Final = {"DELIVRD": "green", "SEEN": "green", "ACCEPTD": "cyan", "UNKNOWN": "yellow"}


def format_event(event: Mapping[str, Any]) -> str:
    """Return a coloured line for an event in its JSON form, without characters that control a terminal.

    Its time is in UTC, as the log's times are.
    """
    when = datetime.fromisoformat(event["received_at"]).astimezone(UTC).strftime("%H:%M:%SZ")
    where = f"{event['sender'] or '?'} → {event['recipient'] or '?'}"
    if event["kind"] == "report":
        colour = COLOURS.get(event["status"], "red")
        word, what = event["status"], f"message {event['message_id']}"
        what += f"  error {event['error_code']}" if event["error_code"] else ""
    else:
        colour, word, what = "magenta", "reply", event["text"] or "(no text)"
    if len(what) > _MAX_CHARACTERS:
        what = what[: _MAX_CHARACTERS - 1] + "…"
    label = click.style(f"{printable(word):<8}", fg=colour)
    return f"{when}  {label}  {printable(event['channel'] or ''):<8}  {printable(f'{where}  {what}')}"
