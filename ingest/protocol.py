"""uvicorn's HTTP protocol with the limits that it lacks: on a request's head, and on requests sent ahead of answers.

All of it comes before any address or token is known, so without it whoever reaches the port could fill the memory
(measured: 200 MiB of header lines made the process 200 MiB larger, 6 MiB of pipelined requests 350 MiB) or hold
connections for ever. An offer to upgrade is passed over, as RFC 9110, section 7.8, lets a server do; uvicorn would take
the body for the other protocol's, and answer a good callback with 400.
"""

import asyncio
import sys
from typing import Any, Final

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from ingest import problems
from ingest.answers import Answer

# Header lines of real clients and proxies stay below 8 KiB; what nginx and Node allow lies between that and this.
MAX_HEAD_BYTES: Final = 64 << 10
# A head is a packet or two. One that is still not whole after one to two of these is not coming.
HEAD_SECONDS: Final = 15.0
MAX_HEADERS: Final = 100
# Requests sent before the answer to the one before them. The gateway sends none; each is held in memory.
MAX_PIPELINED: Final = 16

_HOP_BY_HOP: Final = frozenset((b"connection", b"upgrade", b"http2-settings"))


class TooMuch(Exception):
    """Too many header lines, or requests ahead of their answers; the parser turns it into an end of the connection."""


class HttpProtocol(HttpToolsProtocol):
    """One connection. Counts the bytes that came since the parser last made something of them.

    That is the head of a request, or the trailers behind a chunked body: what the parser keeps until it is whole.
    """

    _unparsed_bytes = 0
    _heads = 0
    _heads_before = -1
    _watch: asyncio.TimerHandle | None = None
    _chunk = b""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as uvicorn has it
        """Begin to watch the connection; a timer for each connection, not for each request."""
        super().connection_made(transport)
        self._watch = self.loop.call_later(HEAD_SECONDS, self._look)

    def connection_lost(self, exc: Exception | None) -> None:
        """Watch no more."""
        if self._watch is not None:
            self._watch.cancel()
        super().connection_lost(exc)
        # They refer to the connection, and the connection to them: without this only a full collection, which is
        # rare by choice (see ingest/app.py), would free them.
        self.pipeline.clear()

    def data_received(self, data: bytes) -> None:
        """Parse what came, and end the connection if too much of it is still without meaning."""
        self._unparsed_bytes += len(data)
        self._chunk = data
        super().data_received(data)
        self._chunk = b""
        if self._unparsed_bytes > MAX_HEAD_BYTES and not self.transport.is_closing():
            self._end(problems.head_too_large(MAX_HEAD_BYTES))

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header line."""
        if len(self.headers) >= MAX_HEADERS:
            raise TooMuch
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Go on from the head to the body."""
        self._unparsed_bytes = 0
        if self.parser.should_upgrade():
            return  # parsed again, without the offer: see _unsupported_upgrade_warning
        self._heads += 1
        if len(self.pipeline) >= MAX_PIPELINED:
            raise TooMuch
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Take a piece of the body."""
        self._unparsed_bytes = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """Go on from the body, or its trailers, to the next head."""
        self._unparsed_bytes = 0
        if not self.parser.should_upgrade():
            super().on_message_complete()

    def send_400_response(self, msg: str) -> None:
        """Answer what is no HTTP as every other fault is answered; called by uvicorn with its own words."""
        self._end(problems.not_http(msg.rstrip(".")))

    def _unsupported_upgrade_warning(self) -> None:
        """Parse the request again as if it had not offered to upgrade; called by uvicorn where the parser stopped."""
        stopped = sys.exc_info()[1]
        rest = self._chunk[stopped.args[0] :] if isinstance(stopped, httptools.HttpParserUpgrade) else b""
        lines = [b"%s: %s\r\n" % header for header in self.headers if header[0] not in _HOP_BY_HOP]
        head = b"%s %s HTTP/1.1\r\n%s\r\n" % (self.parser.get_method(), self.url, b"".join(lines))
        self.parser = httptools.HttpRequestParser(self)
        super().data_received(head + rest)

    def _look(self) -> None:
        if self.transport.is_closing():
            return
        # Without a timer for keep-alive nothing of uvicorn's would ever end the connection.
        waits_for_head = self._unparsed_bytes > 0 or self._heads == 0 or self.timeout_keep_alive_task is None
        if waits_for_head and not self._is_answering() and self._heads == self._heads_before:
            self._end(problems.head_too_slow(HEAD_SECONDS))
            return
        self._heads_before = self._heads
        self._watch = self.loop.call_later(HEAD_SECONDS, self._look)

    def _is_answering(self) -> bool:
        cycle: Any = self.cycle
        return cycle is not None and not cycle.response_complete

    def _end(self, answer: Answer) -> None:
        # In the middle of another request's answer there is no room for this one.
        if not self._is_answering():
            self.transport.write(answer.as_http())
        self.transport.close()
