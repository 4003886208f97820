"""The examples do what they say: found by name, called as a worker calls them, with real files and a real server."""

import json
import sqlite3
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from shared import events, wire
from workers import Event, registry
from workers.calling import Caller
from workers.declaration import Handler
from workers.outcomes import DONE, Again, Outcome, Rejected


def read(body: dict[str, Any]) -> list[Event]:
    received_at = datetime(2015, 9, 25, 7, 13, tzinfo=UTC)
    return list(events.of(wire.read(json.dumps(body).encode(), None), source="main", received_at=received_at))


def report(message_id: str, status: str) -> Event:
    return read({"data": [{"message_id": message_id, "status": status, "to": "35679000123"}]})[0]


def reply(text: str | None) -> Event:
    return read({"reply_message_id": "m1", "from": "35679000123", "to": "Fortytwo", "message": {"text": text}})[0]


@pytest.fixture
def handlers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Handler]:
    monkeypatch.setenv("EVERYDAY_FOLDER", str(tmp_path / "everyday"))
    return {handler.name: handler for handler in registry.load(["examples.everyday"])}


class Chat(ThreadingHTTPServer):
    """A chat that answers every post with `status`, and keeps what was posted."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), ChatRequest)
        self.status = 200
        self.posts: list[Any] = []


class ChatRequest(BaseHTTPRequestHandler):
    server: Chat

    def do_POST(self) -> None:
        self.server.posts.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self.send_response(self.server.status)
        if self.server.status == 429:
            self.send_header("Retry-After", "7")
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 # their name
        pass


@pytest.fixture
def chat(monkeypatch: pytest.MonkeyPatch) -> Iterator[Chat]:
    with Chat() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        monkeypatch.setenv("EVERYDAY_ANSWER_URL", f"http://127.0.0.1:{server.server_port}/")
        yield server
        server.shutdown()
        thread.join()


def outcomes(handler: Handler, given: list[Event]) -> list[Outcome]:
    with Caller(handler) as calls:
        return [outcome for _, outcome in calls.run([event for event in given if handler.wants(event)])]


def test_three_handlers_are_found(handlers: dict[str, Handler]) -> None:
    assert list(handlers) == ["refund", "answer", "archive"]


def test_a_message_that_did_not_arrive_is_refunded_once(handlers: dict[str, Handler], tmp_path: Path) -> None:
    given = [report("1", "UNDELIV"), report("2", "DELIVRD"), report("3", "EXPIRED"), report("1", "UNDELIV"), reply("?")]
    assert outcomes(handlers["refund"], given) == [DONE, DONE, DONE]
    database = sqlite3.connect(tmp_path / "everyday" / "credits.db")
    try:
        credited = database.execute("SELECT message_id, status FROM credits ORDER BY message_id").fetchall()
    finally:
        database.close()
    assert credited == [("1", "UNDELIV"), ("3", "EXPIRED")]


def test_a_reply_is_answered(handlers: dict[str, Handler], chat: Chat) -> None:
    assert outcomes(handlers["answer"], [reply("Hello"), reply(None), report("1", "DELIVRD")]) == [DONE, DONE]
    assert chat.posts == [{"to": "35679000123", "text": "Thank you, we will call you."}]


def test_an_answer_waits_as_long_as_the_chat_asks(handlers: dict[str, Handler], chat: Chat) -> None:
    chat.status = 429
    assert outcomes(handlers["answer"], [reply("Hello")]) == [Again(7, "the chat answered 429")]


def test_an_answer_that_the_chat_refuses_is_given_up(handlers: dict[str, Handler], chat: Chat) -> None:
    chat.status = 403
    assert outcomes(handlers["answer"], [reply("Hello")]) == [Rejected("the chat answered 403")]


def test_every_event_is_archived_in_the_file_of_its_day(handlers: dict[str, Handler], tmp_path: Path) -> None:
    given = [report("1", "DELIVRD"), reply("Hello")]
    assert outcomes(handlers["archive"], given) == [DONE, DONE]
    lines = (tmp_path / "everyday" / "2015-09-25.jsonl").read_text(encoding="utf-8").splitlines()
    assert lines == [event.to_json() for event in given]
