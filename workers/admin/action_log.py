"""The action log: what operators did, on the page or on the command line: who, what, where, how many, when, the end.

An action is recorded before it starts and again when it ends, so an interrupted one shows as running. Redis keeps the
newest (`keys.ACTIONS`); the log has two lines for each. It holds no text, no phone number and no token (I9): a
selection is described by its size, never by the words that were searched for.
"""

import getpass
import os
import re
import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any, Final, Literal, TypeAlias

import msgspec
import redis
from msgspec import Struct
from rq.utils import as_text

from shared import batches, keys
from shared.counted import counted
from shared.errors import CallbacksError
from shared.stored_times import stored_time
from shared.structured_log import get_logger
from workers.failures.cursor import Cursor, FailureFilter, IndexReader, Page

log = get_logger("callbacks.operators")

ActionSource: TypeAlias = Literal["page", "command", "api"]
ActionKind: TypeAlias = Literal[
    "replay", "drop", "pause", "resume", "purge", "drain", "forget", "retry", "give_up", "export", "view"
]
ActionState: TypeAlias = Literal["running", "done", "stopped", "failed"]

# Of a name, and of the words for a selection.
_MAX_CHARACTERS: Final = 128
# The shortest whole phone number has this many digits; a count of failures has fewer.
_PHONE_NUMBER: Final = re.compile(r"[0-9]{7,}")


class AlreadyStarted(CallbacksError):
    """This action was already started."""


class Action(Struct, frozen=True, kw_only=True):
    """What an operator asks for.

    `where`: "quarantine", "dead:log" (dead letters of the handler log), "retries:log", "retries", "handler:log",
    "people" (`callbacks forget`, `callbacks export`), "sealed" (`callbacks lost-key`), or where whole numbers were
    seen: "messages", "events", "live".
    `chosen` describes the selected failures or retries; `number` is how many they are, None if they were not counted.
    """

    who: str
    by: ActionSource
    what: ActionKind
    where: str
    chosen: str = ""
    number: int | None = None


class LoggedAction(Action, frozen=True, kw_only=True):
    """An action as it is stored. `done` and `failed` count failures or events so far; `why` is its error's type."""

    action_id: str
    started_at: datetime
    ended_at: datetime | None
    state: ActionState
    done: int
    failed: int
    why: str


class ActionProgress(Struct, kw_only=True):
    """How far an action has come. Who runs it counts here; the action log stores it.

    `action_id` is that of `ActionLog.record`, "" if the action has no record.
    """

    action_id: str = ""
    done: int = 0
    failed: int = 0
    is_stopped: bool = False


class ActionLog:
    """The action log over one connection. Every method may raise redis.RedisError."""

    def __init__(self, connection: redis.Redis) -> None:
        self._connection: Any = connection
        self._index_reader = IndexReader(connection)

    def start(self, action: Action, action_id: str = "") -> str:
        """Record that an action starts, and return its id: `action_id`, or a new one.

        Raise AlreadyStarted if `action_id` is known, and redis.OutOfMemoryError while Redis is full.
        """
        action_id = action_id or new_id()
        action = _sanitize(action)
        key, time_ms = keys.action(action_id), batches.now_ms()
        fields = {name: value for name, value in msgspec.structs.asdict(action).items() if value is not None}
        with self._connection.pipeline() as pipe:
            pipe.watch(key)
            if pipe.exists(key):
                raise AlreadyStarted
            pipe.multi()
            pipe.hset(key, mapping={**fields, "started_ms": time_ms, "state": "running"})
            pipe.expire(key, keys.ACTION_SECONDS)
            pipe.zadd(keys.ACTIONS, {action_id: time_ms})
            pipe.zrange(keys.ACTIONS, 0, -keys.ACTIONS_KEPT - 1)
            try:
                *_, too_many = pipe.execute()
            except redis.WatchError:
                raise AlreadyStarted from None
        log.info(
            "operator_action_started",
            id=action_id,
            who=action.who,
            by=action.by,
            what=action.what,
            where=action.where,
            chosen=action.chosen,
            number=_number_text(action.number),
        )
        if too_many:
            with self._connection.pipeline() as pipe:
                pipe.delete(*(keys.action(as_text(one)) for one in too_many))
                pipe.zrem(keys.ACTIONS, *too_many)
                pipe.execute()
        return action_id

    def end(
        self, action_id: str, action: Action, progress: ActionProgress, *, state: ActionState, why: str = ""
    ) -> None:
        """Record how an action ended, and its progress."""
        action = _sanitize(action)
        log.info(
            "operator_action_ended",
            id=action_id,
            who=action.who,
            what=action.what,
            where=action.where,
            state=state,
            done=progress.done,
            failed=progress.failed,
            why=why,
        )
        fields = {"state": state, "ended_ms": batches.now_ms(), "why": why, **progress_fields(progress)}
        self._connection.hset(keys.action(action_id), mapping=fields)

    @contextmanager
    def record(self, action: Action) -> Iterator[ActionProgress]:
        """Record the action that runs inside the context: its start, and its end even if it raises.

        While Redis is full the action runs without a record: dropping failures makes room.
        """
        progress = ActionProgress()
        action_id = ""
        try:
            action_id = progress.action_id = self.start(action)
        except redis.OutOfMemoryError:
            log.warning("operator_action_not_logged", what=action.what, where=action.where)
        try:
            yield progress
        except BaseException as exc:
            # The action's own error is raised, also if recording it fails.
            state: ActionState = "stopped" if progress.is_stopped or not isinstance(exc, Exception) else "failed"
            self._end_if_possible(action_id, action, progress, state=state, why=type(exc).__name__)
            raise
        self._end_if_possible(action_id, action, progress, state="stopped" if progress.is_stopped else "done")

    def find(self, action_id: str) -> LoggedAction | None:
        """Return one action, or None if it is unknown or expired."""
        return _parse_action(action_id, self._connection.hgetall(keys.action(action_id)))

    def list_newest(self, *, after: Cursor | None = None, limit: int) -> Page[LoggedAction]:
        """Return a page of actions, newest first, after a cursor."""
        cursors = self._index_reader.read_members(keys.ACTIONS, after=after, limit=limit + 1)
        with self._connection.pipeline(transaction=False) as pipe:
            for cursor in cursors[:limit]:
                pipe.hgetall(keys.action(cursor.item_id))
            reply = pipe.execute()
        found = (_parse_action(cursor.item_id, fields) for cursor, fields in zip(cursors[:limit], reply, strict=True))
        return Page(tuple(filter(None, found)), cursors[limit - 1] if len(cursors) > limit else None, len(reply))

    def _end_if_possible(
        self, action_id: str, action: Action, progress: ActionProgress, *, state: ActionState, why: str = ""
    ) -> None:
        if not action_id:
            return
        try:
            self.end(action_id, action, progress, state=state, why=why)
        except redis.RedisError:
            log.warning("operator_action_not_logged", what=action.what, where=action.where)


def new_id() -> str:
    """Return an id for an action: 12 hexadecimal digits of the time in ms, then 8 random ones."""
    return f"{batches.now_ms():012x}{secrets.token_hex(4)}"


def progress_fields(progress: ActionProgress) -> dict[str, int]:
    """Return the stored fields of an action's progress."""
    return {"done": progress.done, "failed": progress.failed}


def describe_filter(failure_filter: FailureFilter) -> str:
    """Return which failures a filter matches, in words, without the text that was searched for."""
    parts = [
        f"{name} {value}" for name, value in (("source", failure_filter.source), ("kind", failure_filter.kind)) if value
    ]
    if failure_filter.error:
        parts.append(f"error contains a text of {counted(len(failure_filter.error), 'character')}")
    times = [
        f", {name} {at:%Y-%m-%d %H:%M} UTC"
        for name, at in (("since", failure_filter.since), ("until", failure_filter.until))
        if at is not None
    ]
    return ("all with " + ", ".join(parts) if parts else "all") + "".join(times)


def describe_ids(number: int) -> str:
    """Return the words for `number` failures that were named by their ids."""
    return f"{number:,} by id"


def describe_selection(ids: Sequence[str], failure_filter: FailureFilter) -> str:
    """Return which failures were chosen, in words: those of the ids, or all, and of these those that match."""
    if not ids:
        return describe_filter(failure_filter)
    named = describe_ids(len(ids))
    return named if failure_filter.matches_all else f"{named}: {describe_filter(failure_filter)}"


def command_line_user() -> str:
    """Return who runs this command: the user's name, or the user's number if it has no name."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user need not have a name
        return f"uid {os.getuid()}"


def _sanitize(action: Action) -> Action:
    return msgspec.structs.replace(
        action, who=_sanitize_text(action.who) or "unknown", chosen=_sanitize_text(action.chosen)
    )


def _sanitize_text(text: str) -> str:
    """Return `text` cut to one line, without phone numbers, quotation marks and invisible characters."""
    printable = "".join(character if character.isprintable() and character != '"' else " " for character in text)
    return _PHONE_NUMBER.sub("(number)", printable)[:_MAX_CHARACTERS].strip()


def _number_text(number: int | None) -> str:
    return "unknown" if number is None else str(number)


def _parse_action(action_id: str, reply: dict[bytes, bytes]) -> LoggedAction | None:
    fields: dict[str, str] = {as_text(name): value.decode(errors="replace") for name, value in reply.items()}
    if "started_ms" not in fields:
        return None
    ended_ms, number = fields.get("ended_ms"), fields.get("number")
    return msgspec.convert(
        {name: fields.get(name, "") for name in ("who", "by", "what", "where", "chosen", "state", "why")}
        | {
            "action_id": action_id,
            "number": None if number is None else int(number),
            "started_at": stored_time(fields["started_ms"]),
            "ended_at": None if ended_ms is None else stored_time(ended_ms),
            "done": int(fields.get("done", 0)),
            "failed": int(fields.get("failed", 0)),
        },
        LoggedAction,
    )
