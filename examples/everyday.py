"""Three handlers of everyday use: give money back, answer a reply, keep everything.

    CALLBACKS_HANDLERS=examples.everyday

They keep their files in EVERYDAY_FOLDER and send answers to EVERYDAY_ANSWER_URL, which takes {"to": …, "text": …}.
"""

import asyncio
import json
import os
import sqlite3
import urllib.error
import urllib.request
from contextlib import closing
from http import HTTPStatus
from pathlib import Path

from workers import Event, Reject, ReplyEvent, ReportEvent, Retry, handler


@handler(ReportEvent, statuses={"UNDELIV", "REJECTD", "EXPIRED"})
def refund(event: ReportEvent) -> None:
    """Credit the customer for a message that did not arrive: once for each, however often we are told."""
    with closing(sqlite3.connect(_folder() / "credits.db")) as database, database:
        database.execute("CREATE TABLE IF NOT EXISTS credits (message_id TEXT PRIMARY KEY, status TEXT)")
        database.execute("INSERT OR IGNORE INTO credits VALUES (?, ?)", (event.message_id, event.status))


@handler(ReplyEvent, concurrency=32, attempts=5, timeout_seconds=10)
async def answer(event: ReplyEvent) -> None:
    """Answer who wrote to us: 32 answers at a time, later if the other side is busy, never if it refuses."""
    if event.text is None:
        return  # a sticker or a picture
    status, retry_after = await asyncio.to_thread(_post, {"to": event.sender, "text": "Thank you, we will call you."})
    if status in (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE):
        raise Retry(after_seconds=float(retry_after or 60), reason=f"the chat answered {status}")
    if status >= HTTPStatus.BAD_REQUEST:
        raise Reject(f"the chat answered {status}")


@handler(ReportEvent, ReplyEvent, batch=True)
def archive(events: list[Event]) -> None:
    """Keep every event as a line of JSON in the file of its day."""
    days: dict[str, str] = {}
    for event in events:
        day = event.received_at.date().isoformat()
        days[day] = days.get(day, "") + event.to_json() + "\n"
    for day, lines in days.items():
        with (_folder() / f"{day}.jsonl").open("a", encoding="utf-8") as file:
            file.write(lines)


def _folder() -> Path:
    folder = Path(os.environ.get("EVERYDAY_FOLDER", "var/everyday"))
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _post(answer: dict[str, str | None]) -> tuple[int, str | None]:
    url = os.environ["EVERYDAY_ANSWER_URL"]  # the operator's own setting, never a value from an event
    body, headers = json.dumps(answer).encode(), {"Content-Type": "application/json"}
    try:
        with urllib.request.urlopen(urllib.request.Request(url, body, headers), timeout=9) as response:  # noqa: S310
            return response.status, None
    except urllib.error.HTTPError as refusal:
        with refusal:
            return refusal.code, refusal.headers["Retry-After"]
