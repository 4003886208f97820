"""The way of one callback through the web process: address, token, size, read, shape, commit.

Nothing of it is answered with 200 before the commit that holds it is durable (I1).
"""

import asyncio
from typing import Final, TypeVar
from urllib.parse import unquote

from starlette.types import Receive, Scope

from ingest import answers, log, problems
from ingest.answers import Answer
from ingest.body import REQUEST_BYTES, InFlight, read
from ingest.group_commit import GroupCommit
from ingest.problems import Refused
from ingest.sources import AddressRules, Tokens
from shared import wire
from shared.batches import Accepted, Quarantined, now_ms
from shared.cooperative import Stepwise
from shared.errors import NotJson, StoreUnavailable, UnexpectedShape

T = TypeVar("T")

# Bodies that are no JSON whatever they say. Everything else is read, and judged by what it is.
_FORMS: Final = (b"application/x-www-form-urlencoded", b"multipart/")
# Longer than any length that could be meant, so that int() never meets megabytes of digits.
_LENGTH_DIGITS: Final = 18


class CallbackReceiver:
    """Takes the callbacks of one kind (None: tells the kind from the body)."""

    def __init__(
        self,
        kind: wire.Kind | None,
        *,
        addresses: AddressRules,
        tokens: Tokens,
        commit: GroupCommit,
        in_flight: InFlight,
        max_body_bytes: int,
        body_timeout_seconds: float,
        limited_log: log.RateLimitedLog,
    ) -> None:
        self._kind = kind
        self._addresses = addresses
        self._tokens = tokens
        self._commit = commit
        self._in_flight = in_flight
        self._max_body_bytes = max_body_bytes
        self._body_timeout_seconds = body_timeout_seconds
        self._limited_log = limited_log

    async def handle(self, scope: Scope, receive: Receive) -> Answer:
        """Take one callback and give the answer to it. Raises Refused and Gone."""
        length_bytes, encoding, media_type, forwarded, doubled = _headers(scope)
        client = scope["client"]
        decision = self._addresses.decide(client[0] if client else None, forwarded)
        if not decision.allowed:
            raise Refused(problems.address_not_allowed(decision.label))
        source = self._tokens.source(unquote(scope["path_params"]["token"]))
        if source is None:
            raise Refused(problems.not_found())
        if doubled:
            raise Refused(problems.doubled(doubled))
        if encoding not in (b"", b"identity"):
            raise Refused(problems.encoded())
        if media_type.startswith(_FORMS):
            raise Refused(problems.form())
        if length_bytes > self._max_body_bytes:
            raise Refused(problems.too_large(self._max_body_bytes))
        body = await read(
            receive,
            limit_bytes=self._max_body_bytes,
            timeout_seconds=self._body_timeout_seconds,
            in_flight=self._in_flight,
        )
        try:
            return await self._keep(body, source)
        except StoreUnavailable as exc:
            raise Refused(problems.store_unavailable(exc.retry_after_seconds)) from exc
        finally:
            self._in_flight.release(len(body) + REQUEST_BYTES)

    async def _keep(self, body: bytes, source: str) -> Answer:
        if not body:
            raise Refused(problems.not_json("The body is empty", source=source))
        try:
            if len(body) <= wire.SMALL_BODY_BYTES:
                shape = wire.check(body, self._kind)
            else:
                shape = await _in_steps(wire.check_stepwise(body, self._kind))
        except NotJson as exc:
            await self._set_aside(body, source, str(exc))
            raise Refused(problems.not_json(str(exc), source=source)) from exc
        except UnexpectedShape as exc:
            await self._set_aside(body, source, str(exc))
            return answers.quarantined(str(exc))
        if shape.kind != self._kind is not None:
            self._limited_log.warning(
                f"action=misdirected kind={shape.kind}", f"source={source} posted_as={self._kind}"
            )
        await self._commit.accept(Accepted(shape.kind, source, now_ms(), shape.records, body.decode()), len(body))
        if shape.faults:
            error = "; ".join(wire.summarize(shape.faults))
            self._limited_log.warning("action=quarantined part=records", f"source={source} error={error!r}")
            return answers.partly_quarantined(len(shape.faults), error)
        return answers.ACCEPTED

    async def _set_aside(self, body: bytes, source: str, error: str) -> None:
        entry = Quarantined(kind=self._kind, source=source, received_ms=now_ms(), error=error, body=body)
        await self._commit.accept(entry, len(body))
        self._limited_log.warning("action=quarantined part=callback", f"source={source} error={error!r}")


async def _in_steps(steps: Stepwise[T]) -> T:
    """Return the result of `steps`; between two of them all others are served.

    Not in a thread: decoding holds Python's lock, and the event loop would wait for it all the same.
    """
    while True:
        try:
            next(steps)
        except StopIteration as end:
            result: T = end.value
            return result
        await asyncio.sleep(0)


def _headers(scope: Scope) -> tuple[int, bytes, bytes, list[bytes], str]:
    """Give what matters of the headers.

    That is Content-Length, -Encoding (a transfer coding other than chunked counts as one) and -Type, the lines of
    X-Forwarded-For, and which line stands there twice that may stand there once.
    """
    length_bytes, encoding, media_type, doubled = 0, b"", b"", ""
    forwarded: list[bytes] = []
    hosts = types = 0
    for name, value in scope["headers"]:
        if name == b"content-length":
            # What is no length is no reason to refuse: the body is counted as it comes, whatever was said of it.
            if value.isdigit():
                length_bytes = int(value) if len(value) <= _LENGTH_DIGITS else 10**_LENGTH_DIGITS
        elif name == b"host":
            hosts += 1
        elif name == b"content-type":
            types += 1
            media_type = value.strip().lower()
        elif name == b"content-encoding":
            # Of several lines none may say anything but identity.
            encoding = value.strip().lower() if encoding in (b"", b"identity") else encoding
        elif name == b"transfer-encoding":
            encoding = encoding if value.strip().lower() == b"chunked" else value
        elif name == b"x-forwarded-for":
            forwarded.append(value)
    # RFC 9112, section 3.2, and RFC 9110, section 5.3: what stands between us and the sender may have believed the
    # other one. The parser itself refuses a second Content-Length, or one beside Transfer-Encoding. No Host at all is
    # a fault too, but a harmless one, and no reason to lose a callback.
    if hosts > 1 or types > 1:
        doubled = "Host" if hosts > 1 else "Content-Type"
    return length_bytes, encoding, media_type, forwarded, doubled
