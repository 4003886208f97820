"""uvicorn's HTTP protocol with the limits that it lacks: on headers, on pipelined requests, on unread answers.

These limits apply before any address or token is known. Without them anyone who reaches the port could fill the memory
(measured: 200 MiB of header lines made the process 200 MiB larger, 6 MiB of pipelined requests 350 MiB), or hold
connections, and what is written to them, without end. An offer to upgrade is ignored, as RFC 9110, section 7.8, allows;
uvicorn would take the body for the other protocol's, and answer a good callback with 400.
"""

import asyncio
import functools
from typing import Any, ClassVar, Final

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from ingest import answers, log
from ingest.answers import COUNT_REFUSAL, Answer
from ingest.server_connection import CONNECTION

# Headers of real clients and proxies stay below 8 KiB; the limits of nginx and Node lie between that and this.
MAX_HEAD_BYTES: Final = 64 << 10
# A head is a packet or two. One that is not complete after one to two of these intervals will not come. A client that
# does not read for as long, while the kernel's buffers are full, will not read any more.
HEAD_SECONDS: Final = 15.0
# The incomplete heads of all connections together. Ten thousand connections with 64 KiB each would make the process
# 640 MiB larger. A normal head, of a packet or two, is accepted even beyond this limit.
MAX_HEADS_BYTES: Final = 16 << 20
NORMAL_HEAD_BYTES: Final = 4 << 10
MAX_HEADERS: Final = 100
# Requests that a client sends before it has the answer to an earlier one. The gateway does not; each is held in memory.
MAX_PIPELINED: Final = 16
# A chunk of one byte takes six bytes to send and 0.6 µs to parse: 500 clients with 240 KB each kept all others waiting
# for 12 s. After this many pieces, a body's pieces must have this many bytes on average.
PIECES_BEFORE_CHECK: Final = 4096
MIN_MEAN_PIECE_BYTES: Final = 16

_INVALID: Final = "The bytes received are not a valid HTTP request."
_HOP_BY_HOP: Final = frozenset((b"connection", b"upgrade", b"http2-settings"))


@functools.lru_cache(maxsize=4)
def _join(headers: tuple[tuple[bytes, bytes], ...]) -> bytes:
    return b"".join(b"%s: %s\r\n" % header for header in headers)


def _default_lines(headers: list[tuple[bytes, bytes]]) -> bytes:
    """Return the header lines that the server itself sets. They change once a second, so they are cached."""
    return _join(tuple(headers))


class LimitExceeded(Exception):
    """Too many headers, tiny pieces of a body, or pipelined requests. It ends the connection."""


class HttpProtocol(HttpToolsProtocol):
    """One connection. It counts the bytes that the parser holds because what they belong to is incomplete.

    They are the head of a request, or the trailers after a chunked body.
    """

    max_unread_checks: ClassVar[int] = 1
    """In how many checks in a row, HEAD_SECONDS apart, the client may leave something unread."""

    _all_unparsed_bytes: ClassVar[int] = 0

    _unparsed_bytes = 0
    _counted_bytes = 0
    _heads = 0
    _heads_before = -1
    _unread_checks = 0
    _pieces = 0
    _body_bytes = 0
    _timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as uvicorn has it
        """Start the timer of the connection: one for each connection, not for each request."""
        super().connection_made(transport)
        self.app_state = self.app_state | {CONNECTION: self}
        self._timer = self.loop.call_later(HEAD_SECONDS, self._check)

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the timer."""
        if self._timer is not None:
            self._timer.cancel()
        self._unparsed_bytes = 0
        self._count()
        super().connection_lost(exc)
        # They and the connection refer to each other: without this only a full collection would free them, and these
        # are infrequent (see shared/gc_tuning.py).
        self.pipeline.clear()
        self.app_state = {}
        self.scope = self.cycle = None  # type: ignore[assignment] # as before the first request

    def data_received(self, data: bytes) -> None:
        """Parse `data`, and end the connection if the parser holds too much.

        It replaces uvicorn's own, which logs a line for each invalid request.
        """
        self._unset_keepalive_if_required()
        self._unparsed_bytes += len(data)
        self._parse(data)
        if self._unparsed_bytes != self._counted_bytes:
            self._count()
            is_crowded = self._unparsed_bytes > NORMAL_HEAD_BYTES and HttpProtocol._all_unparsed_bytes > MAX_HEADS_BYTES
            if len(self.headers or ()) > MAX_HEADERS:
                self._end(answers.not_http(_INVALID))
            elif self._unparsed_bytes > MAX_HEAD_BYTES:
                self._end(answers.head_too_large(MAX_HEAD_BYTES))
            elif is_crowded:
                self._end(answers.overload())

    def on_headers_complete(self) -> None:
        """Pass from the head to the body."""
        self._unparsed_bytes = self._pieces = self._body_bytes = 0
        if len(self.headers) > MAX_HEADERS:
            raise LimitExceeded
        if self.parser.should_upgrade():
            return  # it is parsed again without the offer: see _parse_without_offer
        self._heads += 1
        if len(self.pipeline) >= MAX_PIPELINED:
            raise LimitExceeded
        # Not super(), here and below: it would look the method up again for each request.
        HttpToolsProtocol.on_headers_complete(self)

    def on_body(self, body: bytes) -> None:
        """Add a piece of the body."""
        self._unparsed_bytes = 0
        self._pieces += 1
        self._body_bytes += len(body)
        if self._pieces > PIECES_BEFORE_CHECK and self._body_bytes < self._pieces * MIN_MEAN_PIECE_BYTES:
            raise LimitExceeded
        HttpToolsProtocol.on_body(self, body)

    def on_message_complete(self) -> None:
        """Pass from the body, or its trailers, to the next head."""
        self._unparsed_bytes = 0
        if not self.parser.should_upgrade():
            HttpToolsProtocol.on_message_complete(self)

    def take_body(self, limit_bytes: int) -> bytes | None:
        """Return a body that is complete. While requests are pipelined, `cycle` is not the one that is answered."""
        cycle: Any = self.cycle
        if cycle is None or self.pipeline or cycle.more_body or len(cycle.body) > limit_bytes:
            return None
        body, cycle.body = bytes(cycle.body), bytearray()
        return body

    def send_at_once(self, status_line: bytes, rest: bytes) -> bool:
        """Send a response in one write, where uvicorn's cycle would take two. Return False in any unusual case."""
        cycle: Any = self.cycle
        if (
            cycle is None
            or self.pipeline
            or not cycle.keep_alive
            or cycle.access_log
            or cycle.disconnected
            or cycle.response_started
            or self.flow.write_paused
            or cycle.scope["method"] == "HEAD"
        ):
            return False
        cycle.response_started = cycle.response_complete = True
        cycle.waiting_for_100_continue = False
        self.transport.write(status_line + _default_lines(self.server_state.default_headers) + rest)
        cycle.message_event.set()
        cycle.on_response()
        return True

    def _parse(self, data: bytes) -> None:
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as stopped:
            if self.parser.get_method() == b"CONNECT":  # an upgrade by itself; it names no path of ours
                self._end(answers.method_not_allowed("CONNECT", ("POST",)))
            else:
                self._parse_without_offer(data[stopped.args[0] :])
        except httptools.HttpParserError:
            self._end(answers.not_http(_INVALID))

    def _parse_without_offer(self, rest: bytes) -> None:
        """Parse the request again without its offer to upgrade."""
        lines = [b"%s: %s\r\n" % header for header in self.headers if header[0] not in _HOP_BY_HOP]
        head = b"%s %s HTTP/1.1\r\n%s\r\n" % (self.parser.get_method(), self.url, b"".join(lines))
        self.parser = httptools.HttpRequestParser(self)
        self._parse(head + rest)

    def _count(self) -> None:
        HttpProtocol._all_unparsed_bytes += self._unparsed_bytes - self._counted_bytes
        self._counted_bytes = self._unparsed_bytes

    def _check(self) -> None:
        self._timer = self.loop.call_later(HEAD_SECONDS, self._check)
        closing = self.transport.is_closing()
        # A closing transport waits until everything is written, a request until there is room for its answer.
        unread = closing or self.transport.get_write_buffer_size() > 0
        self._unread_checks = self._unread_checks + 1 if unread else 0
        if self._unread_checks > self.max_unread_checks:
            log.limited.warning("connection_aborted", address=self._address())
            self.transport.abort()
            return
        # Without its keep-alive timer, nothing in uvicorn would end the connection.
        waits_for_head = self._unparsed_bytes > 0 or self._heads == 0 or self.timeout_keep_alive_task is None
        if not closing and waits_for_head and not self._is_answering() and self._heads == self._heads_before:
            self._end(answers.head_too_slow(HEAD_SECONDS))
        self._heads_before = self._heads

    def _is_answering(self) -> bool:
        cycle: Any = self.cycle
        return cycle is not None and not cycle.response_complete

    def _end(self, answer: Answer) -> None:
        if self.transport.is_closing():
            return
        address = self._address()
        log.refused(answer.status, answer.problem, sender=answer.sender, address=address, fields=answer.log_fields)
        count = self.app_state.get(COUNT_REFUSAL)
        if count is not None:
            count(answer, 0.0)
        cycle: Any = self.cycle
        if self._is_answering() and not self.pipeline and cycle.more_body and not cycle.response_started:
            # This request's own body cannot be parsed: the code that reads it sees a disconnected client.
            cycle.disconnected = True
            cycle.message_event.set()
            self.transport.write(answer.status_line + answer.rest)
        elif not self._is_answering():  # otherwise it would stand in the middle of another request's answer
            self.transport.write(answer.status_line + answer.rest)
        self.transport.close()

    def _address(self) -> str:
        return self.client[0] if self.client else "none"
