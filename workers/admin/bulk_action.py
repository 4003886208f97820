"""Replaying or dropping many entries for a page: begun in a request, carried out in parts, watched, gone on with.

What is left to do stands in Redis and moves on with each part, so an act outlives its process: another goes on from
where it was. Each part is whole in itself, and doing an entry twice is not possible; only the last part of one who was
killed may be missing from the count. Who carries an act out holds a lease, so that no two do at once.
"""

import os
from collections.abc import Callable
from typing import Any, Final, Literal, TypeAlias

import msgspec
import redis
from msgspec import Struct
from rq.utils import as_text

from shared import keys
from shared.errors import CallbacksError
from workers.admin.action_log import Action, ActionLog, ActionProgress, ActionState, LoggedAction, progress_fields
from workers.failures.cursor import Cursor, FailureFilter, IndexReader
from workers.failures.failure import FailureNotFound
from workers.failures.failure_list import QUARANTINE, FailureList, dead_letters_of
from workers.failures.store import FailureStore

Task: TypeAlias = Literal["replay", "drop"]

# Some 20 ms of work; between two parts others get their turn, and a stop is heard.
_FAILURES_PER_STEP: Final = 100
_MAX_ERRORS: Final = 20


class NothingToResume(CallbacksError):
    """Nothing is left to do of it, or it was begun more than a day ago, or somebody is at it."""


class RemainingWork(Struct, frozen=True, kw_only=True):
    """What is left to do: the entries of these ids, or, if `cursor` is set, those that the sieve wants from there on.

    `errors` are the first entries with which it could not be done, and why.
    """

    task: Task
    handler: str | None
    ids: tuple[str, ...] = ()
    failure_filter: FailureFilter = FailureFilter()
    cursor: Cursor | None = None
    errors: tuple[tuple[str, str], ...] = ()

    @property
    def failure_list(self) -> FailureList:
        """The shelf on which it is done."""
        return QUARANTINE if self.handler is None else dead_letters_of(self.handler)

    @property
    def is_finished(self) -> bool:
        """Whether nothing is left."""
        return not self.ids and self.cursor is None


class BulkActionState(Struct, frozen=True):
    """How an act stands: what is noted of it, what is left, and whether anybody is carrying it out now."""

    action: LoggedAction
    work: RemainingWork | None
    is_running: bool


class BulkActions:
    """Acts over one connection. Every method may raise redis.RedisError."""

    def __init__(self, connection: redis.Redis) -> None:
        self._connection: Any = connection
        self._store = FailureStore(connection)
        self._index_reader = IndexReader(connection)
        self._action_log = ActionLog(connection)

    def start(self, action: Action, work: RemainingWork, action_id: str = "") -> str:
        """Note an act and what is to be done, and give its id; `carry_out` does it. Raises AlreadyStarted."""
        action_id = self._action_log.start(action, action_id)
        with self._connection.pipeline() as pipe:
            pipe.hset(keys.action_work(action_id), mapping={"work": msgspec.json.encode(work)})
            pipe.expire(keys.action_work(action_id), keys.DAY_SECONDS)
            pipe.execute()
        return action_id

    def get_state(self, action_id: str) -> BulkActionState | None:
        """Tell how an act stands; None if nothing is known of it."""
        logged = self._action_log.find(action_id)
        if logged is None:
            return None
        work = self._read_work(action_id)
        return BulkActionState(logged, work, bool(self._connection.exists(keys.action_runner(action_id))))

    def stop(self, action_id: str) -> None:
        """Ask whoever carries it out to stop after the part that is under way."""
        if self._connection.exists(keys.action_work(action_id)):
            self._connection.hset(keys.action_work(action_id), "stop", 1)

    def resume(self, action_id: str, who: str) -> str:
        """Make what is left of an act that was stopped an act of `who`, and give its id. Raises NothingToResume."""
        state = self.get_state(action_id)
        if state is None or state.work is None or state.work.is_finished or state.is_running:
            raise NothingToResume
        # Of two who go on at once one finds it there.
        if not self._connection.delete(keys.action_work(action_id)):
            raise NothingToResume
        logged, work = state.action, state.work
        left = None if logged.number is None else max(logged.number - logged.done - logged.failed, 0)
        action = Action(
            who=who, by="page", what=work.task, where=logged.where, chosen=f"rest: {logged.chosen}", number=left
        )
        return self.start(action, msgspec.structs.replace(work, errors=()))

    def run(self, action_id: str, *, is_stopping: Callable[[], bool]) -> None:
        """Do what is left of an act, until it is done, is stopped, or `is_stopping`; nothing if another is at it."""
        runner = os.urandom(8).hex()
        if not self._connection.set(keys.action_runner(action_id), runner, nx=True, ex=keys.RUNNER_SECONDS):
            return
        logged, work = self._action_log.find(action_id), self._read_work(action_id)
        if logged is None or work is None:
            self._connection.delete(keys.action_runner(action_id))
            return
        progress = ActionProgress(done=logged.done, failed=logged.failed)
        try:
            state = self._run_to_end(action_id, work, progress, runner=runner, is_stopping=is_stopping)
        except Exception as exc:
            self._action_log.end(action_id, logged, progress, state="failed", why=type(exc).__name__)
            if not isinstance(exc, redis.RedisError):
                self._connection.delete(keys.action_runner(action_id))  # so that somebody can go on with it at once
            raise
        if state is not None:
            self._action_log.end(action_id, logged, progress, state=state)
            self._connection.delete(keys.action_runner(action_id))

    def _run_to_end(
        self,
        action_id: str,
        work: RemainingWork,
        progress: ActionProgress,
        *,
        runner: str,
        is_stopping: Callable[[], bool],
    ) -> ActionState | None:
        """Give how it ended; None if it is another's by now, as nothing was heard of us for too long."""
        while not work.is_finished:
            if is_stopping():
                return "stopped"
            work = self._run_step(work, progress)
            if not self._holds_lease(action_id, runner):
                return None
            with self._connection.pipeline() as pipe:
                pipe.hset(keys.action(action_id), mapping=progress_fields(progress))
                pipe.hset(keys.action_work(action_id), "work", msgspec.json.encode(work))
                pipe.set(keys.action_runner(action_id), runner, ex=keys.RUNNER_SECONDS)
                pipe.hget(keys.action_work(action_id), "stop")
                *_, stop = pipe.execute()
            if stop and not work.is_finished:
                return "stopped"
        return "done"

    def _holds_lease(self, action_id: str, runner: str) -> bool:
        with self._connection.pipeline(transaction=False) as pipe:
            pipe.get(keys.action_runner(action_id))
            pipe.exists(keys.action_work(action_id))
            holder, is_left = pipe.execute()
        return bool(is_left) and (holder is None or as_text(holder) == runner)

    def _run_step(self, work: RemainingWork, progress: ActionProgress) -> RemainingWork:
        """Do one part, count it, and give what is left then."""
        if work.ids:
            ids: tuple[str, ...] = work.ids[:_FAILURES_PER_STEP]
            left = msgspec.structs.replace(work, ids=work.ids[_FAILURES_PER_STEP:])
        else:
            part = self._index_reader.read_rows(
                work.failure_list, work.failure_filter, after=work.cursor, limit=_FAILURES_PER_STEP
            )
            ids = tuple(row.id for row in part.items)
            left = msgspec.structs.replace(work, cursor=part.next_cursor)
        do = self._store.replay if work.task == "replay" else self._store.drop
        errors = list(work.errors)
        for progressed in do(work.failure_list, ids):
            progress.done += progressed.done
            for failure_id, why in progressed.failed:
                # What has left the shelf since it was found, by its age or by another's hand, is nobody's failure.
                if work.ids or not isinstance(why, FailureNotFound):
                    progress.failed += 1
                    errors.append((failure_id, str(why)))
        return msgspec.structs.replace(left, errors=tuple(errors[:_MAX_ERRORS]))

    def _read_work(self, action_id: str) -> RemainingWork | None:
        text = self._connection.hget(keys.action_work(action_id), "work")
        return None if text is None else msgspec.json.decode(text, type=RemainingWork)
