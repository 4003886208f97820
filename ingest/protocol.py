"""uvicorn's HTTP protocol with the limits that it lacks: on heads, on requests ahead of answers, on answers unread.

All of it comes before any address or token is known, so without it whoever reaches the port could fill the memory
(measured: 200 MiB of header lines made the process 200 MiB larger, 6 MiB of pipelined requests 350 MiB) or hold
connections, and what is written to them, for ever. An offer to upgrade is passed over, as RFC 9110, section 7.8, lets
a server do; uvicorn would take the body for the other protocol's, and answer a good callback with 400.
"""

import asyncio
import functools
from typing import Any, ClassVar, Final

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from ingest import log, problems
from ingest.answers import SEND_AT_ONCE, Answer

# Header lines of real clients and proxies stay below 8 KiB; what nginx and Node allow lies between that and this.
MAX_HEAD_BYTES: Final = 64 << 10
# A head is a packet or two. One that is still not whole after one to two of these is not coming.
# Neither is a reader who, for as long, has left unread what no longer fits the kernel's buffers.
HEAD_SECONDS: Final = 15.0
# Of all connections together, what the parser keeps until it is whole; honest heads are below a packet or two, and
# are taken even so. Ten thousand connections with 64 KiB each would make the process 640 MiB larger.
MAX_HEADS_BYTES: Final = 16 << 20
NORMAL_HEAD_BYTES: Final = 4 << 10
MAX_HEADERS: Final = 100
# Requests sent before the answer to the one before them. The gateway sends none; each is held in memory.
MAX_PIPELINED: Final = 16
# Chunks of a byte take six bytes to send and 0.6 µs to parse: 500 strangers, with 240 KB each, kept everybody waiting
# for 12 s. Beyond so many pieces a body's pieces have on average so many bytes, or it is not worth reading.
PIECES_BEFORE_CHECK: Final = 4096
MIN_MEAN_PIECE_BYTES: Final = 16

_limited_log: Final = log.RateLimitedLog()
_HOP_BY_HOP: Final = frozenset((b"connection", b"upgrade", b"http2-settings"))


@functools.lru_cache(maxsize=4)
def _joined(headers: tuple[tuple[bytes, bytes], ...]) -> bytes:
    return b"".join(b"%s: %s\r\n" % header for header in headers)


def _lines(headers: list[tuple[bytes, bytes]]) -> bytes:
    """Give the header lines that the server sets itself, which change once a second."""
    return _joined(tuple(headers))


class LimitExceeded(Exception):
    """Too many header lines, crumbs of a body, or requests ahead of their answers; it ends the connection."""


class HttpProtocol(HttpToolsProtocol):
    """One connection. Counts the bytes that came since the parser last made something of them.

    That is the head of a request, or the trailers behind a chunked body: what the parser keeps until it is whole.
    """

    max_unread_checks: ClassVar[int] = 1
    """So often, HEAD_SECONDS apart, may something be left unread before the connection is ended."""

    _all_unparsed_bytes: ClassVar[int] = 0

    _unparsed_bytes = 0
    _counted_bytes = 0
    _heads = 0
    _heads_before = -1
    _unread_checks = 0
    _pieces = 0
    _body_bytes = 0
    _watch: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as uvicorn has it
        """Begin to watch the connection; a timer for each connection, not for each request."""
        super().connection_made(transport)
        self._watch = self.loop.call_later(HEAD_SECONDS, self._check)

    def connection_lost(self, exc: Exception | None) -> None:
        """Watch no more."""
        if self._watch is not None:
            self._watch.cancel()
        self._unparsed_bytes = 0
        self._count()
        super().connection_lost(exc)
        # They refer to the connection, and the connection to them: without this only a full collection, which is
        # rare by choice (see ingest/app.py), would free them.
        self.pipeline.clear()

    def data_received(self, data: bytes) -> None:
        """Parse what came, and end the connection if too much of it is still without meaning.

        In place of uvicorn's own, which writes a line into its log for each request that is none.
        """
        self._unset_keepalive_if_required()
        self._unparsed_bytes += len(data)
        self._parse(data)
        if self._unparsed_bytes != self._counted_bytes:
            self._count()
            crowded = self._unparsed_bytes > NORMAL_HEAD_BYTES and HttpProtocol._all_unparsed_bytes > MAX_HEADS_BYTES
            if self._unparsed_bytes > MAX_HEAD_BYTES:
                self._end(problems.head_too_large(MAX_HEAD_BYTES))
            elif crowded:
                self._end(problems.overload())

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header line."""
        if len(self.headers) >= MAX_HEADERS:
            raise LimitExceeded
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Go on from the head to the body."""
        self._unparsed_bytes = self._pieces = self._body_bytes = 0
        if self.parser.should_upgrade():
            return  # parsed again, without the offer: see _parse_without_offer
        self._heads += 1
        if len(self.pipeline) >= MAX_PIPELINED:
            raise LimitExceeded
        super().on_headers_complete()
        scope: Any = self.scope
        scope[SEND_AT_ONCE] = functools.partial(self._answer_at_once, self.cycle)

    def on_body(self, body: bytes) -> None:
        """Take a piece of the body."""
        self._unparsed_bytes = 0
        self._pieces += 1
        self._body_bytes += len(body)
        if self._pieces > PIECES_BEFORE_CHECK and self._body_bytes < self._pieces * MIN_MEAN_PIECE_BYTES:
            raise LimitExceeded
        super().on_body(body)

    def on_message_complete(self) -> None:
        """Go on from the body, or its trailers, to the next head."""
        self._unparsed_bytes = 0
        if not self.parser.should_upgrade():
            super().on_message_complete()

    def _answer_at_once(self, cycle: Any, status_line: bytes, rest: bytes) -> bool:
        """Send a whole response in one write, as uvicorn's cycle sends it in two; False where that is not the usual."""
        del cycle.scope[
            SEND_AT_ONCE
        ]  # it refers to the cycle, and the cycle to it: left, it would wait for the collector
        if (
            not cycle.keep_alive
            or cycle.access_log
            or cycle.disconnected
            or cycle.response_started
            or self.flow.write_paused
            or cycle.scope["method"] == "HEAD"
        ):
            return False
        cycle.response_started = cycle.response_complete = True
        cycle.waiting_for_100_continue = False
        self.transport.write(status_line + _lines(self.server_state.default_headers) + rest)
        cycle.message_event.set()
        cycle.on_response()
        return True

    def _parse(self, data: bytes) -> None:
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as stopped:
            if self.parser.get_method() == b"CONNECT":  # is an offer by itself; no path of ours is meant by it
                self._end(problems.method_not_allowed("CONNECT", ("POST",)))
            else:
                self._parse_without_offer(data[stopped.args[0] :])
        except httptools.HttpParserError:
            self._end(problems.not_http("Invalid HTTP request received"))

    def _parse_without_offer(self, rest: bytes) -> None:
        """Parse the request again as if it had not offered to upgrade."""
        lines = [b"%s: %s\r\n" % header for header in self.headers if header[0] not in _HOP_BY_HOP]
        head = b"%s %s HTTP/1.1\r\n%s\r\n" % (self.parser.get_method(), self.url, b"".join(lines))
        self.parser = httptools.HttpRequestParser(self)
        self._parse(head + rest)

    def _count(self) -> None:
        HttpProtocol._all_unparsed_bytes += self._unparsed_bytes - self._counted_bytes
        self._counted_bytes = self._unparsed_bytes

    def _check(self) -> None:
        self._watch = self.loop.call_later(HEAD_SECONDS, self._check)
        closing = self.transport.is_closing()
        # A transport that closes waits until all is written, a request until there is room for its answer.
        unread = closing or self.transport.get_write_buffer_size() > 0
        self._unread_checks = self._unread_checks + 1 if unread else 0
        if self._unread_checks > self.max_unread_checks:
            _limited_log.warning("action=connection_aborted", f"address={self._address()}")
            self.transport.abort()
            return
        # Without a timer for keep-alive nothing of uvicorn's would ever end the connection.
        waits_for_head = self._unparsed_bytes > 0 or self._heads == 0 or self.timeout_keep_alive_task is None
        if not closing and waits_for_head and not self._is_answering() and self._heads == self._heads_before:
            self._end(problems.head_too_slow(HEAD_SECONDS))
        self._heads_before = self._heads

    def _is_answering(self) -> bool:
        cycle: Any = self.cycle
        return cycle is not None and not cycle.response_complete

    def _end(self, answer: Answer) -> None:
        if self.transport.is_closing():
            return
        _limited_log.warning(
            f"action=refused status={answer.status} problem={answer.name}", f"{answer.about} address={self._address()}"
        )
        cycle: Any = self.cycle
        if self._is_answering() and not self.pipeline and cycle.more_body and not cycle.response_started:
            # It is this request's own body that cannot be parsed: who reads it hears that the client is gone.
            cycle.disconnected = True
            cycle.message_event.set()
            self.transport.write(answer.status_line + answer.rest)
        elif not self._is_answering():  # else, in the middle of another request's answer, there is no room for this one
            self.transport.write(answer.status_line + answer.rest)
        self.transport.close()

    def _address(self) -> str:
        return self.client[0] if self.client else "none"
