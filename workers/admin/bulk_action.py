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
from workers.admin.action_log import Deed, Noted, State, Tally, Trail, counted
from workers.failures.cursor import Place, Sieve, Walk
from workers.failures.failure import NotThere
from workers.failures.failure_list import QUARANTINE, Shelf, dead_letters_of
from workers.failures.store import Shelves

Task: TypeAlias = Literal["replay", "drop"]

# Some 20 ms of work; between two parts others get their turn, and a stop is heard.
_ENTRIES_A_PART: Final = 100
_MOST_FAILURES: Final = 20


class NotLeft(CallbacksError):
    """Nothing is left to do of it, or it was begun more than a day ago, or somebody is at it."""


class Work(Struct, frozen=True, kw_only=True):
    """What is left to do: the entries of these ids, or, if `place` is set, those that the sieve wants from there on.

    `failures` are the first entries with which it could not be done, and why.
    """

    task: Task
    handler: str | None
    ids: tuple[str, ...] = ()
    sieve: Sieve = Sieve()
    place: Place | None = None
    failures: tuple[tuple[str, str], ...] = ()

    @property
    def shelf(self) -> Shelf:
        """The shelf on which it is done."""
        return QUARANTINE if self.handler is None else dead_letters_of(self.handler)

    @property
    def is_finished(self) -> bool:
        """Whether nothing is left."""
        return not self.ids and self.place is None


class Standing(Struct, frozen=True):
    """How an act stands: what is noted of it, what is left, and whether anybody is carrying it out now."""

    noted: Noted
    work: Work | None
    is_carried_out: bool


class Acting:
    """Acts over one connection. Every method may raise redis.RedisError."""

    def __init__(self, connection: redis.Redis) -> None:
        self._connection: Any = connection
        self._shelves = Shelves(connection)
        self._walk = Walk(connection)
        self._trail = Trail(connection)

    def begin(self, deed: Deed, work: Work, action_id: str = "") -> str:
        """Note an act and what is to be done, and give its id; `carry_out` does it. Raises AlreadyBegun."""
        action_id = self._trail.begin(deed, action_id)
        with self._connection.pipeline() as pipe:
            pipe.hset(keys.action_work(action_id), mapping={"work": msgspec.json.encode(work)})
            pipe.expire(keys.action_work(action_id), keys.DAY_SECONDS)
            pipe.execute()
        return action_id

    def look(self, action_id: str) -> Standing | None:
        """Tell how an act stands; None if nothing is known of it."""
        noted = self._trail.find(action_id)
        if noted is None:
            return None
        work = self._work(action_id)
        return Standing(noted, work, bool(self._connection.exists(keys.action_runner(action_id))))

    def stop(self, action_id: str) -> None:
        """Ask whoever carries it out to stop after the part that is under way."""
        if self._connection.exists(keys.action_work(action_id)):
            self._connection.hset(keys.action_work(action_id), "stop", 1)

    def go_on(self, action_id: str, who: str) -> str:
        """Make what is left of an act that was stopped an act of `who`, and give its id. Raises NotLeft."""
        standing = self.look(action_id)
        if standing is None or standing.work is None or standing.work.is_finished or standing.is_carried_out:
            raise NotLeft
        # Of two who go on at once one finds it there.
        if not self._connection.delete(keys.action_work(action_id)):
            raise NotLeft
        noted, work = standing.noted, standing.work
        left = None if noted.number is None else max(noted.number - noted.done - noted.failed, 0)
        deed = Deed(who=who, by="page", what=work.task, where=noted.where, chosen=f"rest: {noted.chosen}", number=left)
        return self.begin(deed, msgspec.structs.replace(work, failures=()))

    def carry_out(self, action_id: str, *, is_stopping: Callable[[], bool]) -> None:
        """Do what is left of an act, until it is done, is stopped, or `is_stopping`; nothing if another is at it."""
        runner = os.urandom(8).hex()
        if not self._connection.set(keys.action_runner(action_id), runner, nx=True, ex=keys.RUNNER_SECONDS):
            return
        noted, work = self._trail.find(action_id), self._work(action_id)
        if noted is None or work is None:
            self._connection.delete(keys.action_runner(action_id))
            return
        tally = Tally(done=noted.done, failed=noted.failed)
        try:
            state = self._until_end(action_id, work, tally, runner=runner, is_stopping=is_stopping)
        except Exception as exc:
            self._trail.end(action_id, noted, tally, state="failed", why=type(exc).__name__)
            if not isinstance(exc, redis.RedisError):
                self._connection.delete(keys.action_runner(action_id))  # so that somebody can go on with it at once
            raise
        if state is not None:
            self._trail.end(action_id, noted, tally, state=state)
            self._connection.delete(keys.action_runner(action_id))

    def _until_end(
        self, action_id: str, work: Work, tally: Tally, *, runner: str, is_stopping: Callable[[], bool]
    ) -> State | None:
        """Give how it ended; None if it is another's by now, as nothing was heard of us for too long."""
        while not work.is_finished:
            if is_stopping():
                return "stopped"
            work = self._part(work, tally)
            if not self._is_ours(action_id, runner):
                return None
            with self._connection.pipeline() as pipe:
                pipe.hset(keys.action(action_id), mapping=counted(tally))
                pipe.hset(keys.action_work(action_id), "work", msgspec.json.encode(work))
                pipe.set(keys.action_runner(action_id), runner, ex=keys.RUNNER_SECONDS)
                pipe.hget(keys.action_work(action_id), "stop")
                *_, stop = pipe.execute()
            if stop and not work.is_finished:
                return "stopped"
        return "done"

    def _is_ours(self, action_id: str, runner: str) -> bool:
        with self._connection.pipeline(transaction=False) as pipe:
            pipe.get(keys.action_runner(action_id))
            pipe.exists(keys.action_work(action_id))
            held_by, is_left = pipe.execute()
        return bool(is_left) and (held_by is None or as_text(held_by) == runner)

    def _part(self, work: Work, tally: Tally) -> Work:
        """Do one part, count it, and give what is left then."""
        if work.ids:
            ids: tuple[str, ...] = work.ids[:_ENTRIES_A_PART]
            left = msgspec.structs.replace(work, ids=work.ids[_ENTRIES_A_PART:])
        else:
            part = self._walk.rows(work.shelf, work.sieve, after=work.place, most=_ENTRIES_A_PART)
            ids = tuple(row.id for row in part.found)
            left = msgspec.structs.replace(work, place=part.place)
        do = self._shelves.replay if work.task == "replay" else self._shelves.drop
        failures = list(work.failures)
        for progressed in do(work.shelf, ids):
            tally.done += progressed.done
            for entry_id, why in progressed.failed:
                # What has left the shelf since it was found, by its age or by another's hand, is nobody's failure.
                if work.ids or not isinstance(why, NotThere):
                    tally.failed += 1
                    failures.append((entry_id, str(why)))
        return msgspec.structs.replace(left, failures=tuple(failures[:_MOST_FAILURES]))

    def _work(self, action_id: str) -> Work | None:
        told = self._connection.hget(keys.action_work(action_id), "work")
        return None if told is None else msgspec.json.decode(told, type=Work)
