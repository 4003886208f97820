"""The way of one callback through the web process: address, token, headers, body, shape, commit.

No callback is answered with 200 before the commit that holds it is durable (I1).

What is decoded or encoded of a payload from the POST to the handler, each once unless something is unusual:

    web      `wire.check`                  bytes → text, to be sure that it is UTF-8; JSON → the shape, no more
             `CallbackReceiver._accept`    bytes → text
             `batches.expand_job`          the body as it is inside the job's call, or text → a JSON string there
    expand   `queues.JsonSerializer`       the job's call → its callbacks, with undecoded bodies
             `batches.decode_callback`     each body → text
             `wire.read`                   text → bytes; JSON → typed records, and the span of each
             `encoded_from_callback`       each event, with its record's span → JSON
    deliver  `queues.JsonSerializer`       the job's call → its events as they are stored
             `events.complete`             each of them → the event, with the fields that its record has
"""

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Final
from urllib.parse import unquote

from msgspec import Struct, structs
from starlette.types import Receive, Scope

from ingest import answers, log
from ingest.answers import Answer, Refused
from ingest.body import COPY_BYTES, HELD_COPY_BYTES, REQUEST_BYTES, BodyTooLarge, InFlight, discard, read
from ingest.group_commit import BatchEntry, GroupCommit
from ingest.sources import AddressDecision, AddressRules, Tokens
from shared import body_parser, body_shapes, content_codec, cooperative, wire
from shared.batches import Accepted, Quarantined, now_ms
from shared.errors import NotJson, StoreUnavailable, UnexpectedShape
from shared.schema import Kind

# Every body is read and judged by what it is. If one of these media types is not JSON, the answer says 415.
_FORMS: Final = (b"application/x-www-form-urlencoded", b"multipart/")
# What a copy of a refused body keeps of its request's headers, and how much of each.
_KEPT_HEADERS: Final = frozenset(
    (b"content-type", b"content-encoding", b"transfer-encoding", b"content-length", b"user-agent")
)
_KEPT_HEADER_CHARACTERS: Final = 256
# More digits than any real length has, so that int() never gets megabytes of them.
_LENGTH_DIGITS: Final = 18


class CallbackReceiver:
    """Receives the callbacks of one kind (None: of either; the body tells which)."""

    def __init__(
        self,
        kind: Kind | None,
        *,
        addresses: AddressRules,
        tokens: Tokens,
        commit: GroupCommit,
        in_flight: InFlight,
        max_body_bytes: int,
        body_timeout_seconds: float,
    ) -> None:
        self._kind = kind
        self._addresses = addresses
        self._tokens = tokens
        self._commit = commit
        self._in_flight = in_flight
        self._max_body_bytes = max_body_bytes
        self._body_timeout_seconds = body_timeout_seconds

    async def handle(self, scope: Scope, receive: Receive) -> Answer:
        """Receive one callback and return the answer to it. Raise Refused and ClientDisconnected."""
        headers = _read_headers(scope)
        client = scope["client"]
        decision = self._addresses.decide(client[0] if client else None, headers.forwarded)
        if not decision.allowed:
            refusal = answers.address_not_allowed(decision.label)
            raise _refused(refusal, decision, has_valid_token=self._source(scope) is not None)
        source = self._source(scope)
        if source is None:
            raise _refused(answers.not_found(), decision, has_valid_token=False)
        try:
            return await self._receive(headers, _Request(source, scope), receive)
        except Refused as exc:
            raise _refused(exc.answer, decision, has_valid_token=True) from exc

    def _source(self, scope: Scope) -> str | None:
        return self._tokens.source(unquote(scope["path_params"]["token"]))

    async def _receive(self, headers: "_Headers", request: "_Request", receive: Receive) -> Answer:
        if headers.duplicate:
            answer = answers.duplicate_header(headers.duplicate)
            raise self._refuse_unread(answer, request, f"the {headers.duplicate} header is repeated")
        if headers.length_bytes > self._max_body_bytes:
            answer = answers.body_too_large(self._max_body_bytes)
            raise self._refuse_unread(answer, request, self._too_large_error())
        try:
            body = await read(
                request.scope,
                receive,
                limit_bytes=self._max_body_bytes,
                timeout_seconds=self._body_timeout_seconds,
                in_flight=self._in_flight,
            )
        except BodyTooLarge as exc:
            with self._in_flight.room(HELD_COPY_BYTES) as has_room:
                if has_room:
                    await self._keep_copy(exc.answer, exc.head, request, self._too_large_error())
            raise
        try:
            if content_codec.is_plain(headers.codings):
                return await self._accept_or_refuse(body, request, headers)
            return await self._accept_compressed(body, request, headers)
        except StoreUnavailable as exc:
            raise Refused(answers.store_unavailable(exc.retry_after_seconds)) from exc
        finally:
            self._in_flight.release(len(body) + REQUEST_BYTES)

    async def _accept_compressed(self, body: bytes, request: "_Request", headers: "_Headers") -> Answer:
        steps = content_codec.decompress(body, headers.codings, limit_bytes=self._max_body_bytes)
        try:
            plain = await cooperative.run_between_others(steps)
        except content_codec.UnsupportedCoding:
            error = "the body is in a content coding that is not supported"
            raise await self._refuse(answers.encoding_not_supported(), body, request, error) from None
        except content_codec.PlainBodyTooLarge:
            answer = answers.body_too_large(self._max_body_bytes, unread=False)
            raise await self._refuse(answer, body[:COPY_BYTES], request, self._too_large_error()) from None
        except NotJson as exc:
            answer = answers.not_json(str(exc), source=request.source)
            raise await self._refuse(answer, body, request, str(exc)) from exc
        self._in_flight.reserve(len(plain))
        try:
            return await self._accept_or_refuse(plain, request, headers)
        finally:
            self._in_flight.release(len(plain))

    async def _accept_or_refuse(self, body: bytes, request: "_Request", headers: "_Headers") -> Answer:
        """Accept a body as it is, or else in the charset that its headers name. Raise Refused if it is not JSON."""
        source = request.source
        if not body:
            raise Refused(answers.not_json("the body is empty", source=source))
        try:
            return await self._accept(body, source)
        except NotJson as exc:
            error = str(exc)
        converted = content_codec.to_utf8(body, headers.media_type, headers.codings)
        if converted is not None:
            try:
                return await self._accept(converted, source)
            except NotJson as exc:
                error = str(exc)
        if headers.media_type.startswith(_FORMS):
            raise await self._refuse(answers.form_not_supported(), body, request, error)
        raise await self._refuse(answers.not_json(error, source=source), body, request, error)

    async def _refuse(self, answer: Answer, body: bytes, request: "_Request", error: str) -> Refused:
        """Return the refusal of an authentic body when a copy of it is in the quarantine."""
        entry = Quarantined(
            kind=self._kind,
            source=request.source,
            received_ms=now_ms(),
            error=error,
            body=body,
            refused=answer.status,
            headers=_read_kept_headers(request.scope, self._tokens.mask),
        )
        await self._quarantine(entry)
        return Refused(answer)

    def _refuse_unread(self, answer: Answer, request: "_Request", error: str) -> Refused:
        """Return a refusal that is answered at once. A copy of the body's first bytes is kept as they arrive."""

        async def keep_copy(receive: Receive) -> None:
            with self._in_flight.room(HELD_COPY_BYTES) as has_room:
                first = await discard(receive, keep_bytes=COPY_BYTES if has_room else 0)
                if first:
                    await self._keep_copy(answer, first, request, error)

        return Refused(replace(answer, keep_copy=keep_copy))

    async def _keep_copy(self, answer: Answer, first: bytes, request: "_Request", error: str) -> None:
        with suppress(StoreUnavailable):  # it is logged
            await self._refuse(answer, first, request, error)

    def _too_large_error(self) -> str:
        return f"the body has more than {self._max_body_bytes} bytes; at most the first {COPY_BYTES} are kept"

    async def _accept(self, body: bytes, source: str) -> Answer:
        try:
            if len(body) <= wire.SMALL_BODY_BYTES:
                shape = wire.check(body, self._kind)
            else:
                shape = await cooperative.run_between_others(wire.check_stepwise(body, self._kind))
        except (NotJson, UnexpectedShape) as exc:
            return await self._accept_other_shape(body, source, exc)
        self._log_misdirected(shape, source)
        await self._commit.accept(Accepted(shape.kind, source, now_ms(), shape.records, body.decode()), len(body))
        if shape.faults:
            error = "; ".join(body_parser.summarize(shape.faults))
            log.limited.warning("quarantined", {"part": "records"}, source=source, error=error)
            return answers.partly_quarantined(len(shape.faults), error)
        return answers.ACCEPTED

    async def _accept_other_shape(self, body: bytes, source: str, error: NotJson | UnexpectedShape) -> Answer:
        """Accept the documented callbacks in a body that is none itself, which is the `error`. Raise NotJson."""
        # They are in memory together with the body.
        self._in_flight.reserve(len(body))
        try:
            parts = await cooperative.run_between_others(body_shapes.split(body, self._kind, error))
            if parts:
                return await self._accept_parts(parts, source)
        except NotJson as exc:  # also of a list that was cut short: `wire.check` saw that it is a list, and no more
            raise exc if isinstance(error, UnexpectedShape) else error from None
        except UnexpectedShape as exc:
            error = exc
        finally:
            self._in_flight.release(len(body))
        if isinstance(error, NotJson):
            raise error
        await self._quarantine(
            Quarantined(kind=self._kind, source=source, received_ms=now_ms(), error=str(error), body=body)
        )
        return answers.quarantined(str(error))

    async def _accept_parts(self, parts: Sequence[body_shapes.Part], source: str) -> Answer:
        received_ms = now_ms()
        entries: list[BatchEntry] = []
        unreadable = 0
        for body, shape, error in map(structs.astuple, parts):
            if shape is None:
                entry = Quarantined(kind=self._kind, source=source, received_ms=received_ms, error=error, body=body)
                entries.append(entry)
                unreadable += 1
                continue
            self._log_misdirected(shape, source)
            entries.append(Accepted(shape.kind, source, received_ms, shape.records, body.decode()))
            unreadable += len(shape.faults)
        await self._commit.accept_all((entry, len(part.body)) for entry, part in zip(entries, parts, strict=True))
        if not unreadable:
            return answers.ACCEPTED
        error = "; ".join(body_shapes.summarize(parts))
        log.limited.warning("quarantined", {"part": "records"}, source=source, error=error)
        return answers.partly_quarantined(unreadable, error)

    def _log_misdirected(self, shape: wire.Shape, source: str) -> None:
        if shape.kind != self._kind is not None:
            log.limited.warning("misdirected", {"kind": shape.kind}, source=source, posted_as=self._kind)

    async def _quarantine(self, entry: Quarantined) -> None:
        await self._commit.accept(entry, len(entry.body))
        log.limited.warning("quarantined", {"part": "callback"}, source=entry.source, error=entry.error)


def _refused(answer: Answer, decision: AddressDecision, *, has_valid_token: bool) -> Refused:
    return Refused(replace(answer, address=decision.label, has_valid_token=has_valid_token))


class _Request(Struct, frozen=True):
    """Who sends a request, and its scope."""

    source: str
    scope: Scope


class _Headers(Struct, frozen=True):
    """What matters of a request's headers.

    `codings` are those of Content-Encoding, and of Transfer-Encoding other than chunked, in lower case. `forwarded` are
    the lines of X-Forwarded-For. `duplicate` names a header that is repeated and must not be.
    """

    length_bytes: int
    codings: Sequence[bytes]
    media_type: bytes
    forwarded: list[bytes]
    duplicate: str


def _read_headers(scope: Scope) -> _Headers:
    length_bytes, media_type, duplicate = 0, b"", ""
    codings: Sequence[bytes] = ()
    forwarded: list[bytes] = []
    hosts = types = 0
    for name, value in scope["headers"]:
        if name == b"content-length":
            # A value that is not a number is no reason to refuse: the body is counted as it arrives.
            if value.isdigit():
                length_bytes = int(value) if len(value) <= _LENGTH_DIGITS else 10**_LENGTH_DIGITS
        elif name == b"host":
            hosts += 1
        elif name == b"content-type":
            types += 1
            media_type = value.strip().lower()
        elif name == b"content-encoding":
            codings = [*codings, *content_codec.members(value)]
        elif name == b"transfer-encoding":
            if value.strip().lower() != b"chunked":
                codings = [*codings, *content_codec.transfer_codings(value)]
        elif name == b"x-forwarded-for":
            forwarded.append(value)
    # RFC 9112, section 3.2, and RFC 9110, section 5.3: a proxy on the way may have believed the other one. The parser
    # itself refuses a second Content-Length, or one together with Transfer-Encoding. A missing Host is an error too,
    # but harmless, and no reason to lose a callback.
    if hosts > 1 or types > 1:
        duplicate = "Host" if hosts > 1 else "Content-Type"
    return _Headers(length_bytes, codings, media_type, forwarded, duplicate)


def _read_kept_headers(scope: Scope, mask: Callable[[str], str]) -> dict[str, str]:
    """Return the headers that say how to read a body and what sent it, without tokens."""
    kept: dict[str, str] = {}
    for name, value in scope["headers"]:
        if name in _KEPT_HEADERS:
            text = mask(value.decode("latin-1"))[:_KEPT_HEADER_CHARACTERS]
            kept[name.decode()] = f"{kept[name.decode()]}, {text}" if name.decode() in kept else text
    return kept
