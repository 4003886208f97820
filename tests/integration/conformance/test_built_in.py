"""The handlers that come with the service stand what every handler should."""

import importlib.util
import json
import sqlite3
import threading
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from callbacks import Event, samples
from callbacks.testing import Conformance
from tests.redis_server import RedisServer


class BuiltIn(Conformance):
    """A handler of a module that reads the environment when it is loaded."""

    def load(
        self, monkeypatch: pytest.MonkeyPatch, module: str, function: str, **environment: str
    ) -> Callable[..., Any]:
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        # The module as it is stays where others have it; this is a second one.
        spec = importlib.util.find_spec(f"workers.handlers.{module}")
        assert spec is not None
        assert spec.loader is not None
        loaded = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(loaded)
        found: Callable[..., Any] = getattr(loaded, function)
        return found


class TestLog(BuiltIn):
    @pytest.fixture
    def callbacks_handler(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
        self.path = tmp_path / "events.jsonl"
        return self.load(monkeypatch, "log", "log", CALLBACKS_LOG_FILE=str(self.path))

    def effects(self) -> Collection[object]:
        # Its readers count by `id`: it says so.
        lines = self.path.read_text(encoding="utf-8").split("\n") if self.path.exists() else []
        return {json.loads(line)["id"] for line in filter(None, lines)}


class TestSql(BuiltIn):
    @pytest.fixture
    def callbacks_handler(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
        self.path = tmp_path / "callbacks.db"
        return self.load(monkeypatch, "sql.handler", "sql", DATABASE_URL=f"sqlite:///{self.path}")

    def effects(self) -> Collection[object]:
        if not self.path.exists():
            return []
        with closing(sqlite3.connect(self.path)) as database:
            tables = ("callbacks_messages", "callbacks_statuses", "callbacks_replies")
            return [row for table in tables for row in database.execute(f"SELECT * FROM {table}")]


class TestOptout(BuiltIn):
    @pytest.fixture
    def callbacks_handler(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
        self.path = tmp_path / "callbacks.db"
        return self.load(monkeypatch, "optout.handler", "optout", DATABASE_URL=f"sqlite:///{self.path}")

    def bad_events(self) -> Sequence[Event]:
        return [samples.reply("STOP", sender=None)]

    def effects(self) -> Collection[object]:
        if not self.path.exists():
            return []
        with closing(sqlite3.connect(self.path)) as database:
            return list(database.execute("SELECT * FROM callbacks_opt_outs"))


class TestJsonl(BuiltIn):
    @pytest.fixture
    def callbacks_handler(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
        self.folder = tmp_path / "events"
        return self.load(monkeypatch, "jsonl.handler", "jsonl", CALLBACKS_JSONL_DIR=str(self.folder))

    def effects(self) -> Collection[object]:
        return [line for file in self.folder.glob("*.jsonl") for line in file.read_bytes().splitlines()]


class TestStream(BuiltIn):
    @pytest.fixture
    def callbacks_handler(self, redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
        self.server = redis_server
        return self.load(monkeypatch, "stream.handler", "stream", CALLBACKS_STREAM_URL=redis_server.url)

    def effects(self) -> Collection[object]:
        with self.server.client() as client:
            entries: Any = client.xrange("callbacks")
        return [fields["event"] for _, fields in entries]


class Receiver(ThreadingHTTPServer):
    """Takes every post, and keeps its `webhook-id`."""

    request_queue_size = 128  # 32 connect at once, and of five that wait the others are reset

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Request)
        self.ids: list[str] = []


class Request(BaseHTTPRequestHandler):
    server: Receiver
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.server.ids.append(self.headers["webhook-id"])
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 # their name
        pass


class TestForward(BuiltIn):
    @pytest.fixture
    def callbacks_handler(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Any]]:
        with Receiver() as self.receiver:
            thread = threading.Thread(target=self.receiver.serve_forever, kwargs={"poll_interval": 0.01})
            thread.start()
            yield self.load(
                monkeypatch,
                "forward.handler",
                "forward",
                CALLBACKS_FORWARD_URL=f"http://127.0.0.1:{self.receiver.server_port}/",
                CALLBACKS_FORWARD_SECRETS="whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=",
                CALLBACKS_FORWARD_ALLOW_PRIVATE="true",
            )
            self.receiver.shutdown()
            thread.join()

    def effects(self) -> Collection[object]:
        # Receivers know repetitions by `webhook-id`: Standard Webhooks says so.
        return set(self.receiver.ids)
