"""The server of the web process's /metrics: what it answers, and that hostile clients take little of it."""

import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from ingest.prometheus import server as metrics_server
from ingest.prometheus.server import CONNECTIONS, MAX_HEAD_BYTES, MetricsServer
from shared.background import Background

TEXT = b"callbacks_web_workers 1.0\n"


@pytest.fixture
def address() -> Iterator[tuple[str, int]]:
    listening = socket.create_server(("127.0.0.1", 0), backlog=64)
    server = MetricsServer(listening, lambda: TEXT, background=Background())
    server.start()
    yield listening.getsockname()
    server.close()


def ask(address: tuple[str, int], request: bytes) -> bytes:
    with socket.create_connection(address, timeout=60) as client:
        client.sendall(request)
        answer = b""
        while received := client.recv(65536):
            answer += received
    return answer


def test_a_scrape_gets_the_text(address: tuple[str, int]) -> None:
    head, _, body = ask(address, b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n").partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"content-type: text/plain; version=0.0.4" in head
    assert body == TEXT
    assert ask(address, b"GET /metrics/?name[]=x HTTP/1.0\r\n\r\n").endswith(TEXT)
    assert ask(address, b"HEAD /metrics HTTP/1.1\r\n\r\n") == head + b"\r\n\r\n"


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", b"404 Not Found"),
        (b"GET /metrics/../livez HTTP/1.1\r\n\r\n", b"404 Not Found"),
        (b"POST /metrics HTTP/1.1\r\ncontent-length: 9\r\n\r\n", b"405 Method Not Allowed"),
        (b"\x16\x03\x01\x02\x00\r\n\r\n", b"404 Not Found"),
        (b"GET /metrics HTTP/1.1\r\n" + b"a" * MAX_HEAD_BYTES, b"431 Request Header Fields Too Large"),
    ],
)
def test_anything_else_is_refused(address: tuple[str, int], request_bytes: bytes, status: bytes) -> None:
    assert ask(address, request_bytes).startswith(b"HTTP/1.1 " + status)


def test_connections_that_say_nothing_cost_no_threads_and_end_by_themselves(
    address: tuple[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(metrics_server, "CONNECTION_SECONDS", 0.2)
    before = threading.active_count()
    with ExitStack() as stack:
        for number in range(40):
            idle = stack.enter_context(socket.create_connection(address, timeout=60))
            if number % 2:
                idle.sendall(b"GET /metrics HTTP/1.1\r\n")  # and no end

        assert threading.active_count() <= before
        # It waits in the kernel until those before it are closed.
        assert ask(address, b"GET /metrics HTTP/1.1\r\n\r\n").endswith(TEXT)


def test_slow_readers_hold_no_thread_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics_server, "CONNECTION_SECONDS", 0.2)
    listening = socket.create_server(("127.0.0.1", 0), backlog=64)
    server = MetricsServer(listening, lambda: b"x" * (32 << 20), background=Background())
    server.start()
    try:
        with ExitStack() as stack:
            for _ in range(CONNECTIONS):
                slow = stack.enter_context(socket.create_connection(listening.getsockname(), timeout=60))
                slow.sendall(b"GET /metrics HTTP/1.1\r\n\r\n")
            assert ask(listening.getsockname(), b"GET / HTTP/1.1\r\n\r\n").startswith(b"HTTP/1.1 404")
    finally:
        server.close()


def test_the_text_is_made_once_for_scrapes_at_the_same_time() -> None:
    made: list[int] = []

    def exposition() -> bytes:
        made.append(1)
        return TEXT

    with socket.create_server(("127.0.0.1", 0)) as listening:
        server = MetricsServer(listening, exposition, background=Background())
        assert {server._current() for _ in range(1000)} == {TEXT}
    assert len(made) < 500
