"""The trail of what operators did, on the page or on the command line: who, what, where, how many, when, how it ended.

It is noted before anything is done and again at the end, so an act that was broken off shows as begun. Redis keeps the
newest (`keys.ACTIONS`), the log has two lines of each. No text, no phone number and no token is in it (I9): what was
chosen is described by how much, never by the words that were searched for.
"""

import getpass
import logging
import os
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any, Final, Literal, TypeAlias

import msgspec
import redis
from msgspec import Struct
from rq.utils import as_text

from shared import batches, keys
from shared.errors import CallbacksError
from shared.stored_times import stored_time
from workers.failures.cursor import Part, Place, Sieve, Walk

log = logging.getLogger("callbacks.operators")

By: TypeAlias = Literal["page", "command"]
What: TypeAlias = Literal["replay", "drop", "off", "on", "discard", "drain"]
State: TypeAlias = Literal["running", "done", "stopped", "failed"]

_MOST_CHARACTERS: Final = 64
# As long as any whole phone number is, and shorter than an id made of digits needs to be told.
_NUMBER: Final = re.compile(r"[0-9]{7,}")


class AlreadyBegun(CallbacksError):
    """It was begun before: whoever asks twice means it once."""


class Deed(Struct, frozen=True, kw_only=True):
    """What an operator is about to do, on a shelf ("quarantine", "dead:log") or with a handler ("handler:log").

    `chosen` says in words which entries; `number` how many they are, None where nobody counted.
    """

    who: str
    by: By
    what: What
    where: str
    chosen: str = ""
    number: int | None = None


class Noted(Deed, frozen=True, kw_only=True):
    """What is noted of it. `done` and `failed` count entries, or events, so far; `why` is the kind of its error."""

    action_id: str
    begun_at: datetime
    ended_at: datetime | None
    state: State
    done: int
    failed: int
    why: str


class Tally(Struct, kw_only=True):
    """How far an act has come: its doer counts here, and the trail writes it down."""

    done: int = 0
    failed: int = 0
    is_stopped: bool = False


class Trail:
    """The trail over one connection. Every method may raise redis.RedisError."""

    def __init__(self, connection: redis.Redis) -> None:
        self._connection: Any = connection
        self._walk = Walk(connection)

    def begin(self, deed: Deed, action_id: str = "") -> str:
        """Note that it begins, and give the id it has from now on: `action_id`, if that was given to it before.

        Raises AlreadyBegun, and redis.OutOfMemoryError while Redis is full.
        """
        action_id = action_id or new_id()
        deed = _safe(deed)
        key, time_ms = keys.action(action_id), batches.now_ms()
        fields = {name: value for name, value in msgspec.structs.asdict(deed).items() if value is not None}
        with self._connection.pipeline() as pipe:
            pipe.watch(key)
            if pipe.exists(key):
                raise AlreadyBegun
            pipe.multi()
            pipe.hset(key, mapping={**fields, "begun_ms": time_ms, "state": "running"})
            pipe.expire(key, keys.ACTION_SECONDS)
            pipe.zadd(keys.ACTIONS, {action_id: time_ms})
            pipe.zrange(keys.ACTIONS, 0, -keys.ACTIONS_KEPT - 1)
            try:
                *_, too_many = pipe.execute()
            except redis.WatchError:
                raise AlreadyBegun from None
        log.info(
            'action=operator_began id=%s who="%s" by=%s what=%s where=%s chosen="%s" number=%s',
            *(action_id, deed.who, deed.by, deed.what, deed.where, deed.chosen, _shown(deed.number)),
        )
        if too_many:
            with self._connection.pipeline() as pipe:
                pipe.delete(*(keys.action(as_text(one)) for one in too_many))
                pipe.zrem(keys.ACTIONS, *too_many)
                pipe.execute()
        return action_id

    def end(self, action_id: str, deed: Deed, tally: Tally, *, state: State, why: str = "") -> None:
        """Note how it ended, and with how many entries it was done."""
        deed = _safe(deed)
        log.info(
            'action=operator_ended id=%s who="%s" what=%s where=%s state=%s done=%d failed=%d why=%s',
            *(action_id, deed.who, deed.what, deed.where, state, tally.done, tally.failed, why),
        )
        fields = {"state": state, "ended_ms": batches.now_ms(), "why": why, **counted(tally)}
        self._connection.hset(keys.action(action_id), mapping=fields)

    @contextmanager
    def noted(self, deed: Deed) -> Iterator[Tally]:
        """Note what is done inside: its beginning, and its end however that comes.

        While Redis is full it is done without: dropping is how room is made.
        """
        tally = Tally()
        action_id = ""
        try:
            action_id = self.begin(deed)
        except redis.OutOfMemoryError:
            log.warning("action=operator_unnoted what=%s where=%s", deed.what, deed.where)
        try:
            yield tally
        except BaseException as exc:
            # It fails for that reason, whatever Redis says to a note of it.
            state: State = "stopped" if tally.is_stopped or not isinstance(exc, Exception) else "failed"
            self._end_if_possible(action_id, deed, tally, state=state, why=type(exc).__name__)
            raise
        self._end_if_possible(action_id, deed, tally, state="stopped" if tally.is_stopped else "done")

    def find(self, action_id: str) -> Noted | None:
        """Give what is noted of one act; None if that is nothing, or no more."""
        return _noted(action_id, self._connection.hgetall(keys.action(action_id)))

    def latest(self, *, after: Place | None = None, most: int) -> Part[Noted]:
        """Give the newest acts after a place."""
        places = self._walk.places(keys.ACTIONS, after=after, most=most + 1)
        with self._connection.pipeline(transaction=False) as pipe:
            for place in places[:most]:
                pipe.hgetall(keys.action(place.entry_id))
            told = pipe.execute()
        found = (_noted(place.entry_id, fields) for place, fields in zip(places[:most], told, strict=True))
        return Part(tuple(filter(None, found)), places[most - 1] if len(places) > most else None, len(told))

    def _end_if_possible(self, action_id: str, deed: Deed, tally: Tally, *, state: State, why: str = "") -> None:
        if not action_id:
            return
        try:
            self.end(action_id, deed, tally, state=state, why=why)
        except redis.RedisError:
            log.warning("action=operator_unnoted what=%s where=%s", deed.what, deed.where)


def new_id() -> str:
    """Give an id for an act: 12 hexadecimal digits of the time, then 8 at random."""
    return f"{batches.now_ms():012x}{secrets.token_hex(4)}"


def counted(tally: Tally) -> dict[str, int]:
    """Give the fields of an act that tell how far it has come."""
    return {"done": tally.done, "failed": tally.failed}


def chosen(sieve: Sieve) -> str:
    """Say which entries a sieve lets through, without the text that was searched for."""
    if sieve.wants_all:
        return "all"
    parts = [f"{name} {value}" for name, value in (("source", sieve.source), ("kind", sieve.kind)) if value]
    if sieve.error:
        number = len(sieve.error)
        parts.append(f"error holds a text of {number} character{'' if number == 1 else 's'}")
    return f"all with {', '.join(parts)}"


def by_id(number: int) -> str:
    """Say that so many entries were named."""
    return f"{number:,} by id"


def command_line_user() -> str:
    """Give who runs this command: the name of the user, or the number where there is none."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user need not have a name
        return f"uid {os.getuid()}"


def _safe(deed: Deed) -> Deed:
    return msgspec.structs.replace(deed, who=_plain(deed.who) or "unknown", chosen=_plain(deed.chosen))


def _plain(text: str) -> str:
    """Give a line's worth of `text`, without whole numbers and what would end a quotation or hide something."""
    printable = "".join(character if character.isprintable() and character != '"' else " " for character in text)
    return _NUMBER.sub("(number)", printable)[:_MOST_CHARACTERS].strip()


def _shown(number: int | None) -> str:
    return "unknown" if number is None else str(number)


def _noted(action_id: str, told: dict[bytes, bytes]) -> Noted | None:
    fields: dict[str, str] = {as_text(name): value.decode(errors="replace") for name, value in told.items()}
    if "begun_ms" not in fields:
        return None
    ended_ms, number = fields.get("ended_ms"), fields.get("number")
    return msgspec.convert(
        {name: fields.get(name, "") for name in ("who", "by", "what", "where", "chosen", "state", "why")}
        | {
            "action_id": action_id,
            "number": None if number is None else int(number),
            "begun_at": stored_time(fields["begun_ms"]),
            "ended_at": None if ended_ms is None else stored_time(ended_ms),
            "done": int(fields.get("done", 0)),
            "failed": int(fields.get("failed", 0)),
        },
        Noted,
    )
