"""The gateway's two JSON bodies, as the specification and its users' integrations show them.

Told apart here, and nowhere else: a body that is not JSON (`NotJson`: worth a repetition), a callback that is
JSON but not the documented shape (`NotDocumented`: no repetition helps), and a bundle of which only some records
cannot be read (`Fault`s: its siblings go on). Unknown keys, statuses and channels are never a fault.

Source of the keys: "Message status callback" and "Message reply callback" of the IM Gateway REST API; of the
second spellings (`sms_from`, `viber_from`, integers as digits, several time units): its sibling pages.
"""

import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Annotated, Any, Final, Literal, TypeAlias, TypeVar, cast

import msgspec
from msgspec import Meta, Struct

from shared import surrogates
from shared.errors import NotDocumented, NotJson

Kind: TypeAlias = Literal["status", "reply"]
T = TypeVar("T", bound=Struct)

# 10^17 microseconds after 1970 is the year 5138: anything beyond is no time in any of the three units.
_Time: TypeAlias = (
    Annotated[int, Meta(ge=-(10**17), le=10**17)] | Annotated[str, Meta(pattern=r"^(-?[0-9]{1,17})?$")] | None
)
_Id: TypeAlias = Annotated[str, Meta(min_length=1)] | int
_Text: TypeAlias = str | int | None
# The envelope's texts stand in every event of a bundle, so they are bounded: four times what the gateway allows.
_EnvelopeText: TypeAlias = Annotated[str, Meta(max_length=1024)] | int | None
_Code: TypeAlias = int | Annotated[str, Meta(pattern=r"^(-?[0-9]{1,17})?$")] | None


class Record(Struct, frozen=True, gc=False, kw_only=True):
    """One delivery report of a status callback's `data` (CALLBACK_INFO in the specification)."""

    message_id: _Id
    status: Annotated[str, Meta(min_length=1)]
    type: _Text = None
    timestamp: _Time = None
    micro_timestamp: _Time = None
    to: _Text = None
    from_: _Text = msgspec.field(default=None, name="from")
    sms_from: _Text = None
    viber_from: _Text = None
    client_message_id: _Text = None
    error_code: _Code = None


class StatusCallback(Struct, frozen=True, gc=False, kw_only=True):
    """A status callback whose records are all readable."""

    data: Annotated[list[Record], Meta(min_length=1)]
    api_job_id: _EnvelopeText = None
    client_job_id: _EnvelopeText = None


class StatusEnvelope(Struct, frozen=True, gc=False, kw_only=True):
    """What stands beside `data` in a status callback."""

    api_job_id: _EnvelopeText = None
    client_job_id: _EnvelopeText = None


class ReplyMessage(Struct, frozen=True, gc=False, kw_only=True):
    """REPLY_MSG in the specification: empty for a sticker or a picture."""

    text: str | None = None


class ReplyCallback(Struct, frozen=True, gc=False, kw_only=True):
    """A recipient's message, known by its `reply_message_id`, or by its `req_uuid` where it has no other."""

    reply_message_id: _Text = None
    req_uuid: _Text = None
    api_job_id: _Text = None
    client_job_id: _Text = None
    orig_message_id: _Text = None
    channel: _Text = None
    timestamp: _Time = None
    micro_timestamp: _Time = None
    from_: _Text = msgspec.field(default=None, name="from")
    sms_from: _Text = None
    viber_from: _Text = None
    to: _Text = None
    message: ReplyMessage | None = None

    def __post_init__(self) -> None:
        """Raise ValueError, which msgspec makes an error of validation, where nothing identifies it."""
        if self.reply_message_id in (None, "") and self.req_uuid in (None, ""):
            raise ValueError("missing required key - at `$.reply_message_id`")


class Fault(Struct, frozen=True):
    """A record that cannot be read: its place in `data`, and why, with the JSON path."""

    index: int
    error: str


class Shape(Struct, frozen=True, gc=False):
    """What the web process needs to know of a body: its kind, how many records, and which are unreadable."""

    kind: Kind
    records: int
    faults: tuple[Fault, ...] = ()


class Callback(Struct, frozen=True, gc=False):
    """A body read for good: envelope, and each record typed beside the object it was read from.

    `extra` are the envelope's unknown keys (none, if all the events together would carry more than 1 MiB of them).
    `unreadable` is the callback as if only the records at fault had come (empty without any): what goes to the
    quarantine, to be read again one day.
    """

    kind: Kind
    envelope: StatusEnvelope | ReplyCallback
    records: tuple[tuple[Record | ReplyCallback, dict[str, Any]], ...]
    extra: dict[str, Any]
    faults: tuple[Fault, ...] = ()
    unreadable: bytes = b""


# To say of each record what is wrong with it takes time, during which nobody else is served.
MAX_FAULTS: Final = 1000
# What is nested deeper has no meaning here, and would meet Python's recursion limit (1000) somewhere on its way.
MAX_DEPTH: Final = 100

_BOM: Final = b"\xef\xbb\xbf"
_REQUIRED: Final[dict[Kind, str]] = {"status": "data", "reply": "reply_message_id"}
_REPLY_KEYS: Final = frozenset(("reply_message_id", "req_uuid"))
_ENVELOPE_KEYS: Final = frozenset(("api_job_id", "client_job_id"))
_STATUS_KEYS: Final = _ENVELOPE_KEYS | {"data"}
# Copied into each of a body's records (4 MiB hold 130,000), a long text of the envelope would fill the memory. The
# gateway's own, 36 and at most 255 characters beside 50,000 records, stay within this.
_MOST_ENVELOPE_BYTES: Final = 16 << 20
_MOST_EXTRA_BYTES: Final = 1 << 20
# Beyond U+FFFF a character may be escaped as two units of six bytes.
_MOST_BYTES_A_CHARACTER: Final = 12
_encode = msgspec.json.Encoder().encode
_decode_any = msgspec.json.Decoder().decode
_decode_object = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_decode_array = msgspec.json.Decoder(Annotated[list[msgspec.Raw], Meta(min_length=1)]).decode
_decode_status = msgspec.json.Decoder(StatusCallback).decode
_decode_reply = msgspec.json.Decoder(ReplyCallback).decode


def check(body: bytes, kind: Kind | None) -> Shape:
    """Tell the shape of `body`, posted where `kind` belongs (None: where either may come); what came counts.

    Raises NotJson, or NotDocumented when nothing of it can be read as an event.
    """
    text_of(body)
    try:
        if kind == "status":
            return Shape(kind, len(_decode_status(body).data))
        if kind == "reply":
            _decode_reply(body)
            return Shape(kind, 1)
    except (msgspec.DecodeError, RecursionError):
        pass  # told in full below, at leisure: such bodies are rare
    callback = read(body, kind)
    return Shape(callback.kind, len(callback.records) + len(callback.faults), callback.faults)


def read(body: bytes, kind: Kind | None) -> Callback:
    """Read `body` whole, for the making of events. Raises NotJson and NotDocumented, as `check` does."""
    text_of(body)
    body = surrogates.mended(body.removeprefix(_BOM))
    if kind == "status":
        usual = _read_usual(body)
        if usual is not None:
            return usual
    value = _decode(_decode_object, body, "$")
    told: Kind | None = "status" if "data" in value else "reply" if value.keys() & _REPLY_KEYS else None
    if kind is None or (told is not None and _REQUIRED[kind] not in value):
        if told is None:
            raise NotDocumented("neither a status callback ($.data) nor a reply ($.reply_message_id): $")
        # Where the two URLs were mixed up, or one was given for both, nothing is lost by it.
        kind = told
    return _read_status(value) if kind == "status" else _read_reply(body)


def text_of(body: bytes) -> str:
    """Give `body` as text. Raises NotJson where it is not UTF-8: RFC 8259, section 8.1, allows nothing else."""
    try:
        return body.decode()
    except UnicodeDecodeError as exc:
        raise NotJson(f"the body is not UTF-8: {exc.reason} at byte {exc.start}") from exc


def _read_usual(body: bytes) -> Callback | None:
    """Read a status callback in which nothing is unusual, as nearly all are: in half the time, and with one result.

    None for every other, which `_read_status` reads record by record, and says what is wrong.
    """
    try:
        callback, value = _decode_status(body), _decode_any(body)
    except (msgspec.DecodeError, RecursionError):
        return None
    number = len(callback.data)
    if not value.keys() <= _STATUS_KEYS:
        return None
    # Beyond the envelope's two and each record's one: as deep as that takes as many brackets.
    if body.count(b"{") + body.count(b"[") - number - 2 >= MAX_DEPTH:
        return None
    envelope = len(str(callback.api_job_id)) + len(str(callback.client_job_id))
    if number * envelope * _MOST_BYTES_A_CHARACTER > _MOST_ENVELOPE_BYTES:
        return None
    known = StatusEnvelope(api_job_id=callback.api_job_id, client_job_id=callback.client_job_id)
    return Callback("status", known, tuple(zip(callback.data, value["data"], strict=True)), {})


def _read_status(value: dict[str, msgspec.Raw]) -> Callback:
    if "data" not in value:
        raise NotDocumented("missing required key: $.data")
    # Each record is decoded by itself, so that a number out of range in one leaves its siblings readable.
    parts = _decode(_decode_array, value["data"], "$.data")
    known = {key: _decode_shallow(value[key], f"$.{key}") for key in value if key in _ENVELOPE_KEYS}
    records: list[tuple[Record | ReplyCallback, dict[str, Any]]] = []
    faults: list[Fault] = []
    for index, part in enumerate(parts):
        at = f"$.data[{index}]"
        try:
            raw = _decode_shallow(part, at)
            records.append((_convert(raw, Record, at), raw))
        except NotDocumented as exc:
            faults.append(Fault(index, str(exc)))
            if len(faults) > MAX_FAULTS:
                raise NotDocumented(
                    f"more than {MAX_FAULTS} records cannot be read: {'; '.join(summary(faults))}"
                ) from exc
    if not records:
        raise NotDocumented("; ".join(summary(faults)))
    envelope = _convert(known, StatusEnvelope, "$")
    if sum(len(bytes(value[key])) for key in known) * len(records) > _MOST_ENVELOPE_BYTES:
        raise NotDocumented("api_job_id and client_job_id are too long for so many records: $.data")
    extra = _extra({key: part for key, part in value.items() if key not in _STATUS_KEYS}, records=len(records))
    unreadable = b""
    if faults:
        bad = msgspec.Raw(b"[%s]" % b",".join(bytes(parts[fault.index]) for fault in faults))
        unreadable = _encode({**value, "data": bad})
    return Callback("status", envelope, tuple(records), extra, tuple(faults), unreadable)


def _extra(unknown: dict[str, msgspec.Raw], *, records: int) -> dict[str, Any]:
    """Give the unknown keys beside `data`, as every event of the bundle carries them, if that is not too much."""
    if sum(len(key) + len(bytes(part)) for key, part in unknown.items()) * records > _MOST_EXTRA_BYTES:
        return {}
    extra: dict[str, Any] = {}
    for key, part in unknown.items():
        try:
            extra[key] = _decode_shallow(part, "$")
        except NotDocumented:
            # Nothing that we know of depends on it, so it is passed on as the text that it is.
            extra[key] = bytes(part).decode()
    return extra


def _read_reply(body: bytes) -> Callback:
    raw = _decode_shallow(body, "$")
    reply = _convert(raw, ReplyCallback, "$")
    return Callback("reply", reply, ((reply, raw),), {})


def summary(faults: Sequence[Fault], *, most: int = 3) -> Iterator[str]:
    """Give what is wrong with the first few of the records that cannot be read, and how many more there are."""
    yield from (fault.error for fault in faults[:most])
    if len(faults) > most:
        yield f"and {len(faults) - most} more records"


def _decode(decode: Callable[[Any], Any], part: bytes | msgspec.Raw, at: str) -> Any:
    try:
        return decode(part)
    except msgspec.ValidationError as exc:  # JSON by the grammar, but of another type, or beyond a double's range
        why, below = _sentence(exc)
        raise NotDocumented(f"{why}: {at}{below}") from exc
    except msgspec.DecodeError as exc:
        raise NotJson(f"the body is not JSON: {exc}" if part else "the body is empty") from exc
    except RecursionError as exc:
        raise NotDocumented(f"nested too deeply to be read: {at}") from exc


def _decode_shallow(part: bytes | msgspec.Raw, at: str) -> Any:
    value = _decode(_decode_any, part, at)
    data = bytes(part)
    # As deep as that takes as many brackets; nearly every record has one, so the walk is for the strange.
    if data.count(b"{") + data.count(b"[") > MAX_DEPTH and _depth(value) > MAX_DEPTH:
        raise NotDocumented(f"nested deeper than {MAX_DEPTH}: {at}")
    return value


def _depth(value: Any) -> int:
    depth, level = 0, [value]
    while level:
        depth += 1
        level = [
            item
            for parent in level
            if isinstance(parent, dict | list)
            for item in (parent.values() if isinstance(parent, dict) else parent)
        ]
    return depth


def _convert(value: Any, to: type[T], at: str) -> T:
    try:
        return msgspec.convert(value, to)
    except msgspec.ValidationError as exc:
        why, below = _sentence(exc)
        if isinstance(value, dict) and not below:
            # msgspec names the object in which a key is missing; a reader wants the key's own path.
            missing = next((name for name in _required_keys(to) if name not in value), None)
            if missing is not None:
                why, below = "missing required key", f".{missing}"
        raise NotDocumented(f"{why}: {at}{below}") from exc


@functools.cache
def _required_keys(struct: type[Struct]) -> tuple[str, ...]:
    return tuple(field.encode_name for field in msgspec.structs.fields(struct) if field.required)


def _sentence(exc: msgspec.ValidationError) -> tuple[str, str]:
    why, _, path = str(exc).partition(" - at `$")
    path = path.removesuffix("`")
    if "matching regex" in why:  # of our own patterns there is one, and people do not read it
        why = "Expected a whole number, or its digits as text"
    return why.replace("`", ""), "" if path == "[...]" else path


def status_envelope(callback: Callback) -> StatusEnvelope:
    """Give the envelope of a callback of kind "status"."""
    return cast(StatusEnvelope, callback.envelope)
