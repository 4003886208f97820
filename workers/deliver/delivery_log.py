"""The delivery log: what became of each attempt to deliver an event, written in the step that settles the attempt.

An entry holds attempts of one settlement that ended alike within the same second: successes of one number of attempt
and with one answer, or failures with one error. So an ordinary event costs some 10 bytes. Numbers and texts of people
are in no entry: an event stands there as 8 bytes of its id, and an error or answer as the log line has it
(`outcome_text`).

Failures and successes are kept apart, each in half of CALLBACKS_DELIVERY_LOG_BYTES, so that successes displace no
failure. Each half is a ring of chunks: strings to which entries are appended (`delivery_log.lua`). When a new chunk
begins, the oldest are deleted until the ring fits. `workers.admin.delivery_history` reads them.
"""

import hashlib
import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import suppress
from typing import Any, Final, Literal, NamedTuple, TypeAlias

import msgspec
import redis
from msgspec import Struct

from shared import keys, sealed_field
from workers.deliver.retries import ScheduledRetry
from workers.deliver.round import JobOutcome
from workers.runtime import headroom
from workers.runtime.settlement import Argument, NewFailure

Ring: TypeAlias = Literal["delivered", "failed"]
RINGS: Final[tuple[Ring, ...]] = ("delivered", "failed")
AttemptResult: TypeAlias = Literal["delivered", "retry", "dead"]

# Of a full ring: it loses an eighth of its bytes at once.
_CHUNKS: Final = 8
# A ring that is not full has a chunk for each day of a month, after which Redis deletes it (`delivery_log.lua`).
_MAX_CHUNKS: Final = 64
KEPT_SECONDS: Final = 30 * keys.DAY_SECONDS
_MAX_SEARCHES: Final = 16
# The log never takes more than this part of Redis's maxmemory: what fills Redis refuses callbacks.
_MEMORY_SHARE: Final = 100
# How long a process uses what Redis said of its maxmemory, which may be changed while it runs.
_LIMIT_AGE_SECONDS: Final = 10.0
# As `delivery_log.lua` has it: a double is exact up to there.
_MAX_NUMBER_DIGITS: Final = 15
_KEY_BYTES: Final = 8
_HEX_DIGITS: Final = 2 * _KEY_BYTES
# Before each entry: how long it is, and when its first attempt ended, in ms since 1970.
_LENGTH_BYTES: Final = 4
_TIME_BYTES: Final = 6
HEAD_BYTES: Final = _LENGTH_BYTES + _TIME_BYTES


class Entry(Struct, array_like=True, frozen=True):
    """Attempts that ended alike within a second. `keys` are those of the events (`event_key`), one after the other.

    `attempts` is how many the handler has. `call_ms`: how long each call took, or one number for all; None where no
    call was made. `text`: the error of a failure, or the answer of a target that took the event. `after_ms`: when each
    is retried, after the time of the entry. A text that is sealed is bytes.
    """

    handler: str
    result: AttemptResult
    attempt: int
    attempts: int
    keys: bytes
    call_ms: int | list[int | None] | None
    text: Any = ""  # str, or bytes: msgspec decodes no union of both
    after_ms: list[int] = []

    @property
    def plain_text(self) -> str:
        """The text, or why it cannot be opened."""
        if not isinstance(self.text, bytes):
            return str(self.text)
        return sealed_field.unseal(keys.DELIVERY_LOG, "text", self.text).decode(errors="replace")

    def call_ms_of(self, position: int) -> int | None:
        """Return how long the call of the event at this position took."""
        return self.call_ms[position] if isinstance(self.call_ms, list) else self.call_ms


class _AlikeAttempts(Struct):
    at_ms: int
    ids: list[str]
    call_seconds: list[float | None]
    after_ms: list[int]


class Attempts:
    """The attempts of one settlement at one handler."""

    def __init__(self, handler: str, *, attempts: int) -> None:
        self._handler = handler
        self._attempts = attempts
        self._groups: dict[tuple[AttemptResult, int, str, int], _AlikeAttempts] = {}

    def add_delivered(self, delivered: Sequence[JobOutcome], answer: str) -> None:
        """Add events that a target took with this `answer`, masked."""
        for one in delivered:
            group = self._group("delivered", one.attempt, answer, one.ended_at)
            group.call_seconds += [one.call_seconds] * len(one.events)
            group.ids += [event.id for event in one.events]

    def add_failed(self, ended: JobOutcome, became: NewFailure | ScheduledRetry, error: str) -> None:
        """Add what the settlement makes of one failure: a dead letter or a retry. `error` is its masked text."""
        result: AttemptResult = "retry" if isinstance(became, ScheduledRetry) else "dead"
        group = self._group(result, ended.attempt, error, ended.ended_at)
        group.call_seconds.append(ended.call_seconds)
        if isinstance(became, ScheduledRetry):
            group.after_ms.append(max(0, round(became.due * 1000) - group.at_ms))
        # What cannot be read is a dead letter, whose id stands for that of the event.
        unreadable_id = became.failure_id if isinstance(became, NewFailure) else ""
        group.ids.append(unreadable_id if ended.event is None else ended.event.id)

    def _group(self, result: AttemptResult, attempt: int, text: str, ended_at: float) -> _AlikeAttempts:
        alike = (result, attempt, text, int(ended_at))
        group = self._groups.get(alike)
        if group is None:
            group = self._groups[alike] = _AlikeAttempts(int(ended_at * 1000), [], [], [])
        return group

    def encode(self) -> dict[Ring, bytes]:
        """Return what to append to each ring."""
        texts: dict[Ring, bytearray] = {ring: bytearray() for ring in RINGS}
        for (result, attempt, said, _), group in self._groups.items():
            entry = Entry(
                self._handler,
                result,
                attempt,
                self._attempts,
                _event_keys(group.ids),
                _call_ms(group.call_seconds),
                sealed_field.seal(keys.DELIVERY_LOG, "text", said),
                group.after_ms,
            )
            encoded = msgspec.msgpack.encode(entry)
            text = texts["delivered" if result == "delivered" else "failed"]
            text += len(encoded).to_bytes(_LENGTH_BYTES, "big") + group.at_ms.to_bytes(_TIME_BYTES, "big") + encoded
        return {ring: bytes(text) for ring, text in texts.items()}


def step_arguments(texts: dict[Ring, bytes], *, log_bytes: int) -> list[Argument]:
    """Return the arguments of `delivery_log.lua`: the size of a chunk and of a ring, and what each ring gets."""
    ring_bytes = log_bytes // len(RINGS)
    return [ring_bytes // _CHUNKS, ring_bytes, *(texts.get(ring, b"") for ring in RINGS)]


class LogLimit:
    """How many bytes the log may take: the setting, 0 for none, and never more than a part of Redis's maxmemory.

    0 until that part is known, as a log without its limit could fill Redis.
    """

    def __init__(self, connection: redis.Redis, setting: int) -> None:
        self._connection = connection
        self._setting = setting
        self._bytes = 0
        self._read_at: float | None = None

    def open(self) -> None:
        """Note since when there is a log, unless Redis is full: the first settlement notes it then."""
        if self.read_bytes():
            with suppress(redis.RedisError):
                self._connection.hsetnx(keys.DELIVERY_LOG, "since_ms", int(time.time() * 1000))

    def read_bytes(self) -> int:
        """Return how many bytes the log may take now; while Redis does not answer, as many as before."""
        now = time.monotonic()
        if self._setting and (self._read_at is None or now - self._read_at >= _LIMIT_AGE_SECONDS):
            self._read_at = now
            with suppress(redis.RedisError):
                max_bytes = headroom.read_memory(self._connection).max_bytes
                self._bytes = min(self._setting, max_bytes // _MEMORY_SHARE) if max_bytes else self._setting
        return self._bytes


def stored_number(value: bytes) -> int:
    """Return a number from the log's hash, 0 for what is none: another program may have written any value."""
    return int(value) if value.isdigit() and len(value) <= _MAX_NUMBER_DIGITS else 0


def chunk_names(ring: Ring, newest: int) -> list[str]:
    """Return the keys of a ring's chunks, the newest first. Most of them do not exist."""
    return [f"{keys.DELIVERY_LOG}:{ring}:{number}" for number in range(newest, max(newest - _MAX_CHUNKS, 0), -1)]


def event_key(event_id: str) -> bytes:
    """Return the 8 bytes that stand for an event: the beginning of its id, which is a digest."""
    try:
        key = bytes.fromhex(event_id[:_HEX_DIGITS])
    except ValueError:
        key = b""
    if len(key) == _KEY_BYTES:
        return key
    return hashlib.blake2b(event_id.encode("utf-8", "surrogatepass"), digest_size=_KEY_BYTES).digest()


def _event_keys(event_ids: Sequence[str]) -> bytes:
    """Return `event_key` of each, in a third of the time if all of them are digests."""
    beginnings = "".join([event_id[:_HEX_DIGITS] for event_id in event_ids])
    if len(beginnings) == len(event_ids) * _HEX_DIGITS:
        with suppress(ValueError):
            found = bytes.fromhex(beginnings)
            if len(found) == len(event_ids) * _KEY_BYTES:  # it ignores blanks
                return found
    return b"".join(map(event_key, event_ids))


def _call_ms(seconds: Sequence[float | None]) -> int | list[int | None] | None:
    """Return how long each call took, one number for all if that is the same."""
    if seconds.count(seconds[0]) == len(seconds):  # events of one call
        seconds = seconds[:1]
    found = [None if each is None else round(each * 1000) for each in seconds]
    return found[0] if found.count(found[0]) == len(found) else found


class FoundAttempt(NamedTuple):
    """An attempt at one of the wanted events: the event's key, its position in the entry, its time and the entry."""

    key: bytes
    position: int
    at_ms: int
    entry: Entry


def find_attempts(chunk: bytes, wanted: Collection[bytes]) -> Iterator[FoundAttempt]:
    """Yield each attempt at one of the `wanted` events in a chunk of the log, in the order in which they ended.

    An entry that cannot be read is skipped: a newer release has written it.
    """
    # A search for one key takes about a millisecond for each MiB: more of them are found faster by reading all entries.
    found = frozenset(wanted) if len(wanted) > _MAX_SEARCHES else frozenset(key for key in wanted if key in chunk)
    start = 0
    while found and start + HEAD_BYTES <= len(chunk):
        size, at_ms = read_head(chunk[start : start + HEAD_BYTES])
        encoded = chunk[start + HEAD_BYTES : start + HEAD_BYTES + size]
        start += HEAD_BYTES + size
        if len(found) <= _MAX_SEARCHES and not any(key in encoded for key in found):
            continue
        try:
            entry = msgspec.msgpack.decode(encoded, type=Entry)
        except (msgspec.MsgspecError, ValueError):
            continue
        for position in range(len(entry.keys) // _KEY_BYTES):
            key = entry.keys[position * _KEY_BYTES : (position + 1) * _KEY_BYTES]
            if key in found:
                yield FoundAttempt(key, position, at_ms, entry)


def read_head(head: bytes) -> tuple[int, int]:
    """Return the size of an entry, and when its first attempt ended."""
    return int.from_bytes(head[:_LENGTH_BYTES], "big"), int.from_bytes(head[_LENGTH_BYTES:], "big")
