"""Make dead letters of scheduled retries now, as after the last attempt: an operator gives up on them.

Each step does it for some retries of one handler, in one step with the counters: the audit balances at every moment. A
retry that is running, or is no longer scheduled, stays what it is.
"""

import functools
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from typing import Any, Final

import msgspec
import redis
from msgspec import Struct
from rq.utils import as_text

from shared import events, keys, progress, queue_jobs, queues, sealed_field, stored_events
from workers.deliver.error_text import masked_text
from workers.failures import dead_letters
from workers.runtime import completion_journal, scripts
from workers.runtime.outcome import Rejected
from workers.runtime.settlement import (
    Argument,
    NewFailure,
    append_list,
    dead_letter_counters,
    failure_arguments,
)

_JOBS_PER_STEP: Final = 100
_BYTES_PER_STEP: Final = 2 << 20
_NO_ERROR: Final = "an operator gave up on it"
LEFT_TEXT: Final = (
    "not given up on: this service failed with the whole job, a newer release wrote it, or it is sealed with a key "
    "that is not in CALLBACKS_SEAL_KEYS_FILE"
)
# As give_up.lua returns them.
_DONE, _LEFT = 1, -1


class GivenUp(Struct, frozen=True):
    """How many retries were given up on, and the jobs of those that are left.

    Left is what this release cannot read, and a job with which this service itself failed, not the handler.
    """

    done: int = 0
    left: tuple[str, ...] = ()


class GiveUpStep:
    """The script, loaded over one connection. `run` may raise redis.RedisError."""

    def __init__(self, connection: redis.Redis) -> None:
        # Any, as redis-py types replies as bytes or str, and here they are always bytes.
        self._connection: Any = connection
        self._script = connection.register_script(
            scripts.load("types", "arguments", "portions", "settlement", "admin/give_up")
        )

    def run(self, retries: Iterable[tuple[str, str]]) -> GivenUp:
        """Make dead letters of retries, each a handler and the id of a job, some at a time."""
        by_handler: defaultdict[str, list[str]] = defaultdict(list)
        for handler, job_id in retries:
            by_handler[handler].append(job_id)
        done, left = 0, list[str]()
        for handler, job_ids in by_handler.items():
            while job_ids:
                # One job is read even if it alone is larger.
                fitting = queue_jobs.limit_by_bytes(self._connection, job_ids[:_JOBS_PER_STEP], _BYTES_PER_STEP)
                ids = fitting or job_ids[:1]
                del job_ids[: len(ids)]
                for job_id, state in self._give_up(handler, ids):
                    done += state == _DONE
                    left += [job_id] * (state == _LEFT)
        return GivenUp(done, tuple(left))

    def _give_up(self, handler: str, job_ids: Sequence[str]) -> list[tuple[str, int]]:
        arguments: list[Argument] = ["", "", 0, keys.rq_scheduled(queues.delivery_queue(handler))]
        arguments += [keys.job(""), keys.COALESCED_PREFIX]
        unreadable: list[tuple[str, int]] = []
        names = ("progress", "finished", "error")
        found = queue_jobs.read_stored(self._connection, job_ids, *names)
        readable: list[str] = []
        for job_id, stored in zip(job_ids, found, strict=True):
            if stored.data is None:
                continue  # no longer scheduled
            try:
                words = _job_arguments(handler, job_id, stored)
            except (msgspec.MsgspecError, ValueError):
                unreadable.append((job_id, _LEFT))
                continue
            readable.append(job_id)
            arguments += [job_id, *words]
        if not readable:
            return unreadable
        states: list[int] = self._script(keys=[keys.COUNTS, keys.dead(handler)], args=arguments)
        return [*zip(readable, states, strict=True), *unreadable]


def _job_arguments(handler: str, job_id: str, stored: queue_jobs.StoredJob) -> list[Argument]:
    """Return what the script needs of a job. Raise msgspec.MsgspecError or ValueError if it cannot be read."""
    *_, attempt, encoded = stored.arguments()
    settled, finished = (as_text(value or b"") for value in stored.values[:2])
    error = sealed_field.unseal(keys.job(job_id), "error", stored.values[2] or b"").decode(errors="replace")
    settled = settled or progress.NOTHING
    settled_positions, finished_positions = progress.parse(settled), completion_journal.parse_finished(finished)
    left = [position for position in range(len(encoded)) if position not in settled_positions]
    delivered: Counter[str] = Counter()
    letters: list[NewFailure] = []
    for position, event in zip(left, stored_events.decode(encoded, left), strict=True):
        if position in finished_positions:
            # A worker died before it could write down that the handler had finished it.
            delivered[keys.handler_counter(handler, event.kind, "delivered")] += 1
        else:
            letters.append(
                dead_letters.from_event(
                    handler,
                    event,
                    attempt - 1,
                    Rejected(error or _NO_ERROR),
                    mask=masked_text,
                    encode=functools.partial(_as_stored, encoded[position]),
                )
            )
    arguments: list[Argument] = [settled]
    append_list(arguments, list(delivered.items()))
    append_list(
        arguments, [(*dead_letter_counters(handler, letter.kind), *failure_arguments(letter)) for letter in letters]
    )
    return arguments


def _as_stored(encoded: msgspec.Raw, _: events.Event) -> bytes:
    """Return an event as its retry has it: with its trace."""
    return bytes(encoded)
