"""Serves /metrics on a port of its own: a few threads, each with one connection at a time, for five seconds at most.

A client of the port can neither slow down nor stop callbacks: connections beyond the threads wait in the kernel and
cost no file and no memory, one that sends or reads slowly is closed, and the text is made once a second at most.
"""

import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from http import HTTPStatus
from typing import Final

from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

from shared.background import Background

CONNECTIONS: Final = 4
CONNECTION_SECONDS: Final = 5.0
MAX_HEAD_BYTES: Final = 8 << 10
_CACHE_SECONDS: Final = 1.0


class MetricsServer:
    """Answers GET and HEAD of /metrics on `listening` with what `exposition` returns."""

    def __init__(self, listening: socket.socket, exposition: Callable[[], bytes], *, background: Background) -> None:
        self._listening = listening
        self._exposition = exposition
        self._lock = threading.Lock()
        self._text = b""
        self._made_seconds = float("-inf")
        self._ending = threading.Event()
        self._threads = [
            background.make_thread("metrics_server", self._serve_one, every_seconds=0.0, ending=self._ending)
            for _ in range(CONNECTIONS)
        ]

    def start(self) -> None:
        """Start the threads."""
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        """Stop listening. The threads end with the process if this system does not wake them."""
        self._ending.set()
        with suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()

    def _serve_one(self) -> None:
        try:
            connection, _ = self._listening.accept()
        except OSError:
            if self._ending.is_set():
                return
            raise
        with connection, suppress(OSError):  # the client has gone, or its time is over
            _Connection(connection).answer(self._current)

    def _current(self) -> bytes:
        with self._lock:
            if time.monotonic() - self._made_seconds >= _CACHE_SECONDS:
                self._text = self._exposition()
                self._made_seconds = time.monotonic()
            return self._text


class _Connection:
    """One connection, which ends CONNECTION_SECONDS after its start, whatever its client does."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._deadline = time.monotonic() + CONNECTION_SECONDS

    def answer(self, text: Callable[[], bytes]) -> None:
        """Read a request and answer it. Raise OSError."""
        head = self._read_head()
        method, _, rest = head.partition(b"\r\n")[0].partition(b" ")
        path = rest.partition(b" ")[0].partition(b"?")[0]
        if len(head) >= MAX_HEAD_BYTES:
            self._send(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
        elif not head:
            return
        elif path.rstrip(b"/") != b"/metrics":
            self._send(HTTPStatus.NOT_FOUND)
        elif method not in (b"GET", b"HEAD"):
            self._send(HTTPStatus.METHOD_NOT_ALLOWED, b"allow: GET, HEAD\r\n")
        else:
            self._send(HTTPStatus.OK, body=text(), is_head=method == b"HEAD")

    def _read_head(self) -> bytes:
        head = b""
        while b"\r\n\r\n" not in head and len(head) < MAX_HEAD_BYTES:
            self._limit_time()
            received = self._connection.recv(MAX_HEAD_BYTES - len(head))
            if not received:
                return b""
            head += received
        return head

    def _send(
        self, status: HTTPStatus, headers: bytes = b"", *, body: bytes | None = None, is_head: bool = False
    ) -> None:
        content_type = CONTENT_TYPE_PLAIN_0_0_4 if body is not None else "text/plain; charset=utf-8"
        body = f"{status.value} {status.phrase}\n".encode() if body is None else body
        start = (
            f"HTTP/1.1 {status.value} {status.phrase}\r\ncontent-type: {content_type}\r\n"
            f"content-length: {len(body)}\r\ncache-control: no-store\r\nconnection: close\r\n"
        )
        self._limit_time()
        self._connection.sendall(start.encode() + headers + b"\r\n" + (b"" if is_head else body))
        self._connection.shutdown(socket.SHUT_WR)

    def _limit_time(self) -> None:
        # Python applies it to the whole of `sendall`, but to each `recv` anew.
        self._connection.settimeout(max(0.001, self._deadline - time.monotonic()))
