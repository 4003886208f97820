"""What became of a run's events is written down: all at once, and if that fails, in halves, until one event is alone.

That one becomes a dead letter with the traceback, whatever had become of it. The others are settled as they are.
"""

import logging
import time
from collections import deque
from collections.abc import Sequence
from typing import Final, TypeVar

import msgspec

from shared import events
from shared.metrics import Figures
from workers.declaration import Handler
from workers.deliver.call.spans import CallSpans
from workers.deliver.pause_probe import Part
from workers.deliver.retries import Verdicts
from workers.deliver.run import Ended, Run
from workers.runtime import outcome as outcomes
from workers.runtime import redis_retry
from workers.runtime.completion_journal import Notebook
from workers.runtime.outcome import Unworkable
from workers.runtime.settlement import NOTHING, PauseNews, Settled
from workers.runtime.steps import StaleRun, Steps

T = TypeVar("T")

log = logging.getLogger("callbacks.deliver")

# So many events of which nothing can be written down, each alone: it is not the events' doing, then.
MOST_STUCK: Final = 3


class Unsettled(Exception):
    """What became of events could not be written down, and that is not one event's doing: the cause says why."""


def unworkable(error: Exception, *, handler: str) -> Unworkable:
    """Return the outcome of an event with which this service itself failed, and log it."""
    outcome = outcomes.unworkable(error)
    log.error("action=event_failed handler=%s cause=%s", handler, outcome.cause)
    return outcome


def halves(items: list[T]) -> list[list[T]]:
    """Return the first and the second half of a list; of a list of one, that."""
    middle = len(items) // 2
    return [half for half in (items[:middle], items[middle:]) if half]


class Settler:
    """Settles the runs of one handler in this process."""

    def __init__(
        self, *, steps: Steps, handler: Handler, notebook: Notebook, figures: Figures, spans: CallSpans | None
    ) -> None:
        self._steps = steps
        self._handler = handler
        self._notebook = notebook
        self._figures = figures
        self._spans = spans

    def settle(self, run: Run, part: Part) -> None:
        """Write down what became of events since the last time; all of it at once, if nothing is wrong with one.

        Raises StaleRun, redis.RedisError where Redis is unavailable, and Unsettled.
        """
        left = deque([run.ended_since()])
        if not left[0] and not part.has_news:
            return
        news = part.tell()
        stuck: list[Unsettled] = []
        while left:
            ended = left.popleft()
            try:
                verdicts, settled = self._write_down(run, ended, news)
            except Exception as exc:
                if isinstance(exc, StaleRun) or redis_retry.is_unavailable(exc):
                    raise
                try:
                    left.extendleft(reversed(self._smaller(ended, exc)))
                except Unsettled as unsettled:
                    stuck.append(unsettled)
                    if len(stuck) == MOST_STUCK:
                        raise
                continue
            # What is settled is never settled again, whatever goes wrong from here on.
            run.settled(ended)
            by, news = news.by, NOTHING
            part.learn(settled)
            self._report(verdicts)
            if settled.change == "paused":
                log.warning(
                    "action=handler_paused handler=%s seconds=%.0f by=%s", self._handler.name, settled.seconds, by
                )
            elif settled.change == "resumed":
                log.info("action=handler_resumed handler=%s seconds=%.0f", self._handler.name, settled.seconds)
        if stuck:
            raise stuck[0]
        run.settled_at = time.monotonic()
        self._notebook.clear()

    def _smaller(self, ended: list[Ended], error: Exception) -> list[list[Ended]]:
        """Return what to write down instead, where that failed: each half, or that one event as a dead letter."""
        if len(ended) > 1:
            return halves(ended)
        if not ended or isinstance(ended[0].outcome, Unworkable):
            # Not the event's doing, then.
            raise Unsettled(Unsettled.__doc__) from error
        return [[msgspec.structs.replace(ended[0], outcome=unworkable(error, handler=self._handler.name))]]

    def _write_down(self, run: Run, ended: Sequence[Ended], news: PauseNews) -> tuple[Verdicts, Settled]:
        verdicts = Verdicts(self._handler, encode=events.encode if self._spans is None else self._spans.encode)
        for one in ended:
            verdicts.enter(one)
        settled = self._steps.settle(
            run_id=run.job_id,
            handler=self._handler.name,
            settlements=run.settlements(ended),
            counts=verdicts.counts,
            dead=verdicts.dead,
            later=verdicts.later,
            news=news,
        )
        return verdicts, settled

    def _report(self, verdicts: Verdicts) -> None:
        for name, number in (("retried", len(verdicts.later)), ("died", len(verdicts.dead))):
            self._figures.add((name, self._handler.name), number)
        for (action, cause), number in verdicts.actions.items():
            log.warning("action=%s handler=%s events=%d cause=%s", action, self._handler.name, number, cause)
