"""Replay or drop many failures, or try many retries or give up on them, for a page: started, run in steps, observed.

An action can be stopped and resumed. What is left to do is stored in Redis and updated with each step, so an action
outlives its process: another process can resume it. No failure is replayed or dropped twice, and no retry promoted or
given up on twice; only the last step of a killed process may be missing from the count. A lease makes sure that one
process at a time runs an action.
"""

import os
from collections.abc import Callable
from typing import Any, Final, Literal, TypeAlias

import msgspec
import redis
from msgspec import Struct
from rq.utils import as_text

from shared import keys, sealed_field
from shared.errors import CallbacksError
from shared.sealed_field import Unopened
from workers.admin import replay_outcome
from workers.admin.action_log import Action, ActionLog, ActionProgress, ActionState, LoggedAction, progress_fields
from workers.admin.give_up import LEFT_TEXT, GiveUpStep
from workers.admin.replay_rate import Pace
from workers.admin.retry_rows import RetryCursor, RetryFilter
from workers.admin.scheduled_retries import ScheduledRetries
from workers.failures.cursor import Cursor, FailureFilter, IndexReader
from workers.failures.failure import FailureNotFound
from workers.failures.failure_list import QUARANTINE, FailureList, dead_letters_of
from workers.failures.store import FailureStore
from workers.runtime import pause

Task: TypeAlias = Literal["replay", "drop"]
RetryTask: TypeAlias = Literal["retry", "give_up"]

# About 20 ms of work. Between two steps Redis serves others, and a stop is noticed.
_FAILURES_PER_STEP: Final = 100
_MAX_ERRORS: Final = 20


class NothingToResume(CallbacksError):
    """Nothing to resume: the action is finished, older than 24 hours, or already running."""


class RemainingWork(Struct, frozen=True, kw_only=True, tag="failures"):
    """What is left to do: the failures of these ids, or, if `cursor` is set, those after it that match the filter.

    `errors` are the ids of the first failures that could not be replayed or dropped, and why. `per_second`: how many
    dead letters are replayed a second at most.
    """

    task: Task
    handler: str | None
    ids: tuple[str, ...] = ()
    failure_filter: FailureFilter = FailureFilter()
    cursor: Cursor | None = None
    errors: tuple[tuple[str, str], ...] = ()
    per_second: float | None = None

    @property
    def failure_list(self) -> FailureList:
        """The list of the failures."""
        return QUARANTINE if self.handler is None else dead_letters_of(self.handler)

    @property
    def is_finished(self) -> bool:
        """Whether nothing is left to do."""
        return not self.ids and self.cursor is None


class RemainingRetries(Struct, frozen=True, kw_only=True, tag="retries"):
    """The retries to try or to give up on: those of these jobs, or, if `cursor` is set, those after it that match.

    `errors` are the jobs of the first that could not be given up on, and why.
    """

    task: RetryTask = "retry"
    job_ids: tuple[str, ...] = ()
    retry_filter: RetryFilter = RetryFilter()
    cursor: RetryCursor | None = None
    errors: tuple[tuple[str, str], ...] = ()

    @property
    def is_finished(self) -> bool:
        """Whether nothing is left to do."""
        return not self.job_ids and self.cursor is None


Work: TypeAlias = RemainingWork | RemainingRetries


class BulkActionState(Struct, frozen=True):
    """The state of an action: what the log has, what is left, and whether a process is running it now."""

    action: LoggedAction
    work: Work | None
    is_running: bool


class BulkActions:
    """Bulk actions over one connection. Every method may raise redis.RedisError."""

    def __init__(self, connection: redis.Redis) -> None:
        self._connection: Any = connection
        self._store = FailureStore(connection)
        self._index_reader = IndexReader(connection)
        self._retries = ScheduledRetries(connection)
        self._give_up_step = GiveUpStep(connection)
        self._action_log = ActionLog(connection)

    def start(self, action: Action, work: Work, action_id: str = "") -> str:
        """Record an action and what is to be done, and return its id; `run` does it. Raise AlreadyStarted."""
        action_id = self._action_log.start(action, action_id)
        with self._connection.pipeline() as pipe:
            pipe.hset(keys.action_work(action_id), "work", _encode_work(action_id, work))
            pipe.expire(keys.action_work(action_id), keys.DAY_SECONDS)
            pipe.execute()
        return action_id

    def get_state(self, action_id: str) -> BulkActionState | None:
        """Return the state of an action, or None if it is unknown."""
        # First, as an action that ends is logged before its lease is released: it must not look interrupted.
        is_running = bool(self._connection.exists(keys.action_runner(action_id)))
        logged = self._action_log.find(action_id)
        if logged is None:
            return None
        return BulkActionState(logged, self._read_work(action_id), is_running)

    def stop(self, action_id: str) -> None:
        """Ask the process that runs an action to stop after the current step."""
        if self._connection.exists(keys.action_work(action_id)):
            self._connection.hset(keys.action_work(action_id), "stop", 1)

    def resume(self, action_id: str, who: str) -> str:
        """Start the rest of a stopped action as a new action of `who`, and return its id. Raise NothingToResume."""
        state = self.get_state(action_id)
        if state is None or state.work is None or state.work.is_finished or state.is_running:
            raise NothingToResume
        # Of two who resume it at once, only one deletes it.
        if not self._connection.delete(keys.action_work(action_id)):
            raise NothingToResume
        logged, work = state.action, state.work
        left = None if logged.number is None else max(logged.number - logged.done - logged.failed, 0)
        action = Action(
            who=who, by="page", what=work.task, where=logged.where, chosen=f"rest: {logged.chosen}", number=left
        )
        return self.start(action, msgspec.structs.replace(work, errors=()))

    def run(self, action_id: str, *, is_stopping: Callable[[], bool]) -> None:
        """Run an action until it is done, stopped, or `is_stopping`; do nothing if another process runs it."""
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
                self._connection.delete(keys.action_runner(action_id))  # so that it can be resumed at once
            raise
        if state is not None:
            self._action_log.end(action_id, logged, progress, state=state)
            self._connection.delete(keys.action_runner(action_id))

    def _run_to_end(
        self,
        action_id: str,
        work: Work,
        progress: ActionProgress,
        *,
        runner: str,
        is_stopping: Callable[[], bool],
    ) -> ActionState | None:
        """Return how it ended; None if another process resumed it, as our lease expired."""
        pace = Pace(work.per_second if isinstance(work, RemainingWork) else None)

        def may_continue() -> bool:
            return not is_stopping() and self._renew(action_id, runner)

        def is_paused() -> bool:
            return isinstance(work, RemainingWork) and self._is_paused(work.handler)

        while not work.is_finished:
            if is_stopping():
                return "stopped"
            before = progress.done + progress.failed
            work = self._run_step(work, progress, action_id, pace)
            if not self._holds_lease(action_id, runner):
                return None
            with self._connection.pipeline() as pipe:
                pipe.hset(keys.action(action_id), mapping=progress_fields(progress))
                pipe.hset(keys.action_work(action_id), "work", _encode_work(action_id, work))
                pipe.execute()
            if not self._renew(action_id, runner) and not work.is_finished:
                return "stopped"
            done = progress.done + progress.failed - before
            if not work.is_finished and not pace.wait(done, must_wait=is_paused, may_continue=may_continue):
                return "stopped"
        return "done"

    def _is_paused(self, handler: str | None) -> bool:
        return handler is not None and pause.read_state(self._connection, handler) is not None

    def _renew(self, action_id: str, runner: str) -> bool:
        """Renew the lease, and the lifetime of what is left; return whether nobody has asked the action to stop."""
        with self._connection.pipeline() as pipe:
            pipe.set(keys.action_runner(action_id), runner, ex=keys.RUNNER_SECONDS)
            # A replay with a rate, or one that waits for a paused handler, may take longer than a day.
            pipe.expire(keys.action_work(action_id), keys.DAY_SECONDS)
            pipe.expire(keys.action_replayed(action_id), keys.DAY_SECONDS)
            pipe.hget(keys.action_work(action_id), "stop")
            *_, stop = pipe.execute()
        return not stop

    def _holds_lease(self, action_id: str, runner: str) -> bool:
        with self._connection.pipeline(transaction=False) as pipe:
            pipe.get(keys.action_runner(action_id))
            pipe.exists(keys.action_work(action_id))
            holder, is_left = pipe.execute()
        return bool(is_left) and (holder is None or as_text(holder) == runner)

    def _run_step(self, work: Work, progress: ActionProgress, action_id: str, pace: Pace) -> Work:
        """Run one step, count it, and return what is left."""
        if isinstance(work, RemainingRetries):
            return self._retries_step(work, progress)
        return self._failures_step(work, progress, action_id, pace.begin_step(_FAILURES_PER_STEP))

    def _retries_step(self, work: RemainingRetries, progress: ActionProgress) -> RemainingRetries:
        if work.job_ids:
            found = [(row.handler, row.job_id) for row in self._retries.read_named(work.job_ids)]
            left = msgspec.structs.replace(work, job_ids=())
        else:
            members, cursor = self._retries.find(work.retry_filter, after=work.cursor)
            found = [(member.handler, member.cursor.job_id) for member in members]
            left = msgspec.structs.replace(work, cursor=cursor)
        if work.task == "retry":
            progress.done += self._retries.promote(found)
            return left
        given_up = self._give_up_step.run(found)
        progress.done += given_up.done
        progress.failed += len(given_up.left)
        errors = (*work.errors, *((job_id, LEFT_TEXT) for job_id in given_up.left))
        return msgspec.structs.replace(left, errors=errors[:_MAX_ERRORS])

    def _failures_step(self, work: RemainingWork, progress: ActionProgress, action_id: str, size: int) -> RemainingWork:
        if work.ids:
            ids: tuple[str, ...] = work.ids[:size]
            left = msgspec.structs.replace(work, ids=work.ids[size:])
        else:
            part = self._index_reader.read_rows(work.failure_list, work.failure_filter, after=work.cursor, limit=size)
            ids = tuple(row.id for row in part.items)
            left = msgspec.structs.replace(work, cursor=part.next_cursor)
        do = self._store.replay if work.task == "replay" else self._store.drop
        errors = list(work.errors)
        for progressed in do(work.failure_list, ids):
            progress.done += progressed.done
            if work.handler is not None:
                replay_outcome.record_replayed(self._connection, action_id, progressed.replayed)
            for failure_id, why in progressed.failed:
                # A failure that was dropped or replayed since it was found is not an error.
                if work.ids or not isinstance(why, FailureNotFound):
                    progress.failed += 1
                    errors.append((failure_id, str(why)))
        return msgspec.structs.replace(left, errors=tuple(errors[:_MAX_ERRORS]))

    def _read_work(self, action_id: str) -> Work | None:
        stored = self._connection.hget(keys.action_work(action_id), "work")
        if stored is None:
            return None
        text = sealed_field.unseal(keys.action_work(action_id), "work", stored)
        return None if isinstance(text, Unopened) else msgspec.json.decode(text, type=Work)


def _encode_work(action_id: str, work: Work) -> str | bytes:
    return sealed_field.seal(keys.action_work(action_id), "work", msgspec.json.encode(work))
