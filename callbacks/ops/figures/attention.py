"""What of all that is known now deserves a look, the worst first: so that nobody has to read every figure at night.

Each sentence says what is, and what to do or where to look; the runbook in deploy/README.md says more.
"""

from collections.abc import Iterator
from typing import Final, Literal, TypeAlias

from msgspec import Struct

from callbacks.ops.figures.now import AtHandler, Now
from callbacks.ops.figures.quantities import amount, counted, duration, size
from shared import queues

Level: TypeAlias = Literal["bad", "warn"]

# Expanding takes milliseconds; a minute is a fifth of the gateway's patience.
_OLD_SECONDS: Final = 60.0
# From 0.9 on callbacks go to the spool (shared.durability): that is trouble, and before it there is time to act.
_FULL: Final = 0.9
_NEARLY_FULL: Final = 0.75


class Matter(Struct, frozen=True):
    """One thing that deserves a look; `path` is the page that shows it."""

    level: Level
    text: str
    path: str = ""


def matters(now: Now) -> tuple[Matter, ...]:
    """Give them all, the bad before those that are only worth knowing."""
    found = [
        *_audit(now),
        *_redis(now),
        *_processes(now),
        *_failing(now),
        *_spools(now),
        *_waiting(now),
        *_set_aside(now),
    ]
    return tuple(sorted(found, key=lambda matter: matter.level != "bad"))


def _audit(now: Now) -> Iterator[Matter]:
    balance = now.balance
    if balance is not None and not balance.balances and not balance.moving:
        lost = counted(balance.difference, "record or event is", "records or events are")
        yield Matter("bad", f"The audit does not balance: {lost} nowhere, or there twice. Run `callbacks audit`.")


def _redis(now: Now) -> Iterator[Matter]:
    for finding in now.findings:
        if not finding.ok:
            yield Matter("bad", f"Redis does not keep what it should, {finding}.")
    share = now.used_bytes / now.most_bytes if now.most_bytes else 0.0
    if share >= _NEARLY_FULL:
        level: Level = "bad" if share >= _FULL else "warn"
        yield Matter(level, f"Redis uses {share:.0%} of the {size(now.most_bytes)} that it may.")


def _processes(now: Now) -> Iterator[Matter]:
    if not now.web_processes:
        yield Matter("bad", "No web process has been heard of for 15 s: nobody seems to take callbacks.")
    for queue in now.queues:
        if queue.workers or (queue.name != queues.EXPAND and queue.paused_by == "operator"):
            continue
        jobs = queue.waiting + queue.later
        level: Level = "bad" if jobs or queue.name == queues.EXPAND else "warn"
        wait = f", and {counted(jobs, 'job waits', 'jobs wait')}" if jobs else ""
        yield Matter(level, f"No worker listens to the queue {queue.name}{wait}.")


def _failing(now: Now) -> Iterator[Matter]:
    for one in now.failing:
        yield Matter(
            "bad",
            f"In the process {one.process} {one.loop.replace('_', ' ')} keeps failing ({one.error}): "
            "action=loop_failed in its log says where.",
        )


def _spools(now: Now) -> Iterator[Matter]:
    for state, level, text in _SPOOL_STATES:
        number = sum(spool.state == state for spool in now.spools)
        if number:
            yield Matter(level, f"{counted(number, 'spool')} {text}")


_SPOOL_STATES: Final[tuple[tuple[str, Level, str], ...]] = (
    ("failing", "bad", "cannot be written to: look at its disk."),
    ("full", "bad", "full: while Redis is away callbacks are refused."),
    ("filling", "warn", "holding callbacks until Redis takes them."),
)


def _waiting(now: Now) -> Iterator[Matter]:
    for handler in now.handlers:
        yield from _paused(handler)
    for queue in now.queues:
        if queue.oldest_seconds > _OLD_SECONDS and not queue.paused_by:
            age = duration(queue.oldest_seconds)
            yield Matter("warn", f"The first job in the queue {queue.name} has waited {age}.")


def _paused(handler: AtHandler) -> Iterator[Matter]:
    waiting = counted(handler.waiting, "event")
    if handler.paused_by == "operator":
        yield Matter("warn", f"The handler {handler.handler} is off, as an operator asked for; {waiting} waiting.")
    elif handler.paused_by:
        yield Matter("warn", f"The handler {handler.handler} has paused itself: its target is away; {waiting} waiting.")


def _set_aside(now: Now) -> Iterator[Matter]:
    dead = sum(handler.dead for handler in now.handlers)
    if dead:
        yield Matter("warn", f"{counted(dead, 'dead letter')}: replay or drop.", "/dead-letters")
    if now.quarantined:
        entries = f"{amount(now.quarantined)} in quarantine"
        yield Matter("warn", f"{entries}: read, then replay or drop.", "/quarantine")
