"""uvicorn's HTTP protocol with two limits that it lacks: how large a request's head may be, and how long it may take.

Both come before any address or token is known, so without them whoever reaches the port could fill the memory
(measured: 200 MiB of header lines made the process 200 MiB larger) or hold connections for ever.
"""

import asyncio
from typing import Any, Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from ingest import problems
from ingest.answers import Answer

# Header lines of real clients and proxies stay below 8 KiB; what nginx and Node allow lies between that and this.
MAX_HEAD_BYTES: Final = 64 << 10
# A head is a packet or two. One that is still not whole after one to two of these is not coming.
HEAD_SECONDS: Final = 15.0


class HttpProtocol(HttpToolsProtocol):
    """One connection. Counts the bytes that came since the parser last made something of them.

    That is the head of a request, or the trailers behind a chunked body: what the parser keeps until it is whole.
    """

    _unparsed_bytes = 0
    _heads = 0
    _heads_before = -1
    _watch: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as uvicorn has it
        """Begin to watch the connection; a timer for each connection, not for each request."""
        super().connection_made(transport)
        self._watch = self.loop.call_later(HEAD_SECONDS, self._look)

    def connection_lost(self, exc: Exception | None) -> None:
        """Watch no more."""
        if self._watch is not None:
            self._watch.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse what came, and end the connection if too much of it is still without meaning."""
        self._unparsed_bytes += len(data)
        super().data_received(data)
        if self._unparsed_bytes > MAX_HEAD_BYTES and not self.transport.is_closing():
            self._end(problems.head_too_large(MAX_HEAD_BYTES))

    def on_headers_complete(self) -> None:
        """Go on from the head to the body."""
        self._unparsed_bytes = 0
        self._heads += 1
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Take a piece of the body."""
        self._unparsed_bytes = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """Go on from the body, or its trailers, to the next head."""
        self._unparsed_bytes = 0
        super().on_message_complete()

    def _look(self) -> None:
        if self.transport.is_closing():
            return
        waits_for_head = self._unparsed_bytes > 0 or self._heads == 0
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
