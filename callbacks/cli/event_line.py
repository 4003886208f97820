"""How commands show an event to people, on one line, and how people name what is in one."""

import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

import click

from callbacks.cli.failure_options import printable
from shared.events import STATUSES

_COLOURS: Final = {"DELIVRD": "green", "SEEN": "green", "ACCEPTD": "cyan", "UNKNOWN": "yellow"}


def format_event(event: Mapping[str, Any]) -> str:
    """Give a line for an event in its JSON form, coloured; what strangers wrote in it is harmless to a terminal."""
    when = datetime.fromisoformat(event["received_at"]).astimezone().strftime("%H:%M:%S")
    where = f"{event['sender'] or '?'} → {event['recipient'] or '?'}"
    if event["kind"] == "report":
        colour = _COLOURS.get(event["status"], "red")
        word, what = event["status"], f"message {event['message_id']}"
        what += f"  error {event['error_code']}" if event["error_code"] else ""
    else:
        colour, word, what = "magenta", "reply", event["text"] or "(no text)"
    label = click.style(f"{printable(word):<8}", fg=colour)
    return f"{when}  {label}  {printable(event['channel'] or ''):<8}  {printable(f'{where}  {what}')}"


def parse_number(text: str) -> str:
    """Give a number as the gateway writes it: without the +, spaces and strokes with which people do."""
    digits = re.sub(r"[\s().+/-]", "", text)
    return digits if digits.isdecimal() else text


def parse_status(name: str) -> str:
    """Give a status as the gateway writes it, if it is one of its own; others are what they are."""
    return name.upper() if name.upper() in STATUSES else name
