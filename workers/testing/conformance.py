"""What every handler should stand, as tests: subclass `Conformance` in a test module of your own.

class TestRefund(Conformance):
    handler = refund

    def effects(self):
        return database.execute("SELECT message_id FROM credits").fetchall()
"""

import inspect
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, ClassVar, Final

import pytest

from callbacks import samples
from shared.events import Event
from workers.declaration import ATTRIBUTE, Handler
from workers.signals import Reject
from workers.testing import open_resources, task_tracking
from workers.testing.interruption import Interrupted, can_be_interrupted
from workers.testing.sample_events import ODD, ORDINARY, incomplete_samples_for, samples_for
from workers.testing.worker import Result, Worker

# A handler has fewer places where it can be interrupted, or shows its fault before.
_MAX_INTERRUPTIONS: Final = 200


class Conformance:
    """Eight checks of one handler, each a test. Say which in `handler`, and how to see what it did in `effects`.

    Where something has to be made first, override the fixture `callbacks_handler` instead of `handler`: what it gives
    is the handler, and what it keeps in `self` is there in `effects`. The checks hand over some thousand events.
    """

    handler: ClassVar[Callable[..., Any]]

    def effects(self) -> Collection[object]:
        """Give what the handler has done so far, everything that whoever relies on it would count: rows, lines, posts.

        An event that was done leaves as many whether it came once or twice, alone or with others. Where the other
        side knows repetitions by the event's `id`, count ids.
        """
        raise NotImplementedError(f"{type(self).__name__} must say what its handler has done: def effects(self)")

    def bad_events(self) -> Sequence[Event]:
        """Give events that the handler refuses or fails at, if there are such: they may harm no other."""
        return ()

    @pytest.fixture
    def callbacks_handler(self) -> Callable[..., Any]:
        """Give the handler; what has to be made for it, a subclass makes here."""
        found = inspect.getattr_static(self, "handler", None)
        if found is None:
            pytest.fail(f"{type(self).__name__} must say which handler it tests: handler = …")
        function: Callable[..., Any] = found.__func__ if isinstance(found, staticmethod) else found
        return function

    @pytest.fixture
    def callbacks_declaration(self, callbacks_handler: Callable[..., Any]) -> Handler:
        """Give what @handler left on it."""
        declared = getattr(callbacks_handler, ATTRIBUTE, None)
        if not isinstance(declared, Handler):
            pytest.fail(f"{callbacks_handler!r} is not decorated with @handler")
        return declared

    def test_every_event_is_handled_or_rejected_with_a_reason(self, callbacks_declaration: Handler) -> None:
        """No event that may come makes it fail; one that it does not take it refuses with a reason."""
        ordinary = [name for name in samples.NAMES if name not in ODD]
        _expect_handled(callbacks_declaration, samples_for(callbacks_declaration, ordinary))

    def test_odd_texts_are_handled_or_rejected_with_a_reason(self, callbacks_declaration: Handler) -> None:
        """NUL, emoji, right to left, line breaks, quotes and 100,000 characters do not make it fail."""
        _expect_handled(callbacks_declaration, samples_for(callbacks_declaration, ODD))

    def test_any_field_may_be_missing(self, callbacks_declaration: Handler) -> None:
        """It does not fail where a field that may be None is."""
        _expect_handled(callbacks_declaration, incomplete_samples_for(callbacks_declaration))

    def test_an_unknown_status_is_handled_or_rejected_with_a_reason(self, callbacks_declaration: Handler) -> None:
        """A status or a channel that the gateway will add one day does not make it fail."""
        statuses, source = ("FORWARDED_TWICE", "read", "1", "ж" * 300), _source(callbacks_declaration)
        events: dict[str, Event] = {
            f"status {status[:20]}": samples.report(status, source=source) for status in statuses
        }
        events["channel RCS"] = samples.report(channel="RCS", source=source)
        events["reply by RCS"] = samples.reply(channel="RCS", source=source)
        wanted = {name: event for name, event in events.items() if callbacks_declaration.wants(event)}
        if not wanted:
            pytest.skip("its filters let no unknown status or channel pass")
        _expect_handled(callbacks_declaration, wanted)

    def test_the_same_event_twice_is_one_effect(self, callbacks_declaration: Handler) -> None:
        """An event that comes again, to the same process or after it died to another, changes nothing more."""
        events = list(samples_for(callbacks_declaration).values())
        before = self._count()
        with Worker(callbacks_declaration) as worker:
            done = [event for event in events if worker.deliver(event).outcome == "done"]
            once = self._effects()
            if not done:
                pytest.fail("it took none of the samples, so that nothing could be tested")
            if len(once) == before:
                pytest.fail(f"effects() shows nothing of {len(done)} events that were done: what did the handler do?")
            _expect_done_again([worker.deliver(event) for event in done])
            _expect_same(once, self._effects(), "came twice to one process")
        with Worker(callbacks_declaration) as worker:
            _expect_done_again(worker.deliver_all(done))
        _expect_same(once, self._effects(), "came again to another process, together")

    def test_a_bad_event_harms_no_other(self, callbacks_declaration: Handler) -> None:
        """What it does with events one by one it does with all of them together, too, whatever is between them."""
        bad = [event for event in self.bad_events() if callbacks_declaration.wants(event)]
        with Worker(callbacks_declaration) as worker:
            before = self._count()
            alone = {name: worker.deliver(event).outcome for name, event in samples_for(callbacks_declaration).items()}
            left_alone = self._count() - before
            fresh = samples_for(callbacks_declaration)
            mixed = [*bad, *fresh.values()]
            before = self._count()
            results = worker.deliver_all(mixed)
            left_together = self._count() - before
        together = {name: result.outcome for name, result in zip(fresh, results[len(bad) :], strict=True)}
        differing = {name: (alone[name], together[name]) for name in alone if alone[name] != together[name]}
        if differing:
            status = "; ".join(f"{name}: {first} alone, {then} together" for name, (first, then) in differing.items())
            pytest.fail(f"other events change what becomes of one: {status}")
        if any(result.outcome == "done" for result in results[: len(bad)]):
            pytest.fail("bad_events() gave an event that the handler took")
        if left_alone != left_together:
            pytest.fail(f"events one by one left {left_alone} effects, the same kinds together {left_together}")

    def test_ended_by_a_timeout_anywhere_it_is_one_effect_at_the_next_attempt(
        self, callbacks_declaration: Handler
    ) -> None:
        """A time-out may end it at any place: it does not hide that, and the next attempt makes the effect whole."""
        if not can_be_interrupted(callbacks_declaration):
            pytest.skip(f"there is no source of {callbacks_declaration.location}")
        expected = self._growth(callbacks_declaration, _plain(callbacks_declaration))
        for place in range(1, _MAX_INTERRUPTIONS):
            events = _plain(callbacks_declaration)
            interrupted = Interrupted(callbacks_declaration, at=place)
            before = self._count()
            with Worker(interrupted.handler) as worker:
                results = worker.deliver_all(events)
            if not interrupted.was_interrupted:
                return
            again = [event for event, result in zip(events, results, strict=True) if result.outcome != "done"]
            _expect_done(callbacks_declaration, again)
            grown = self._count() - before
            if grown != expected:
                how = "called itself done" if not again else "came again"
                pytest.fail(
                    f"ended at the {place}. place by a time-out, it {how} and left {grown} effects, not {expected}"
                )

    def test_nothing_is_left_open(self, callbacks_declaration: Handler) -> None:
        """When its process stops, no thread, no task, no file and no connection of it is left."""
        before = open_resources.list_open()
        watched, left_tasks = task_tracking.track(callbacks_declaration)
        for _ in range(2):
            with Worker(watched) as worker:
                worker.deliver_all(_plain(callbacks_declaration))
        left = [*left_tasks, *open_resources.find_left_open(before)]
        if left:
            pytest.fail(f"left open when its worker had stopped: {'; '.join(left)}")

    def _effects(self) -> list[str]:
        return sorted(map(repr, self.effects()))

    def _count(self) -> int:
        return len(self.effects())

    def _growth(self, declared: Handler, events: Sequence[Event]) -> int:
        before = self._count()
        _expect_done(declared, events)
        return self._count() - before


def _plain(declared: Handler) -> list[Event]:
    """Give an ordinary event of each of its kinds, or two for a batch handler."""
    return [event for _ in range(2 if declared.batch else 1) for event in samples_for(declared, ORDINARY).values()]


def _source(declared: Handler) -> str:
    return min(declared.sources) if declared.sources else "samples"


def _expect_handled(declared: Handler, events: Mapping[str, Event]) -> None:
    problems: list[str] = []
    with Worker(declared) as worker:
        for name, event in events.items():
            result = worker.deliver(event)
            if result.outcome == "failed":
                problems.append(f"{name}: failed: {result.traceback or result.reason}")
            elif result.outcome == "rejected" and result.reason == str(Reject()):
                problems.append(f'{name}: rejected without a reason: raise Reject("why")')
    if problems:
        pytest.fail("\n".join(problems), pytrace=False)


def _expect_done(declared: Handler, events: Sequence[Event]) -> None:
    with Worker(declared) as worker:
        results = worker.deliver_all(events)
    for result in results:
        if result.outcome != "done":
            pytest.fail(f"it does not take an ordinary event: {result}\n{result.traceback}", pytrace=False)


def _expect_done_again(results: Sequence[Result]) -> None:
    for result in results:
        if result.outcome != "done":
            pytest.fail(f"an event that it had done would become a dead letter when it comes again: {result}")


def _expect_same(once: list[str], then: list[str], how: str) -> None:
    if once != then:
        more = [effect for effect in then if effect not in once] or then
        pytest.fail(f"events that {how} left {len(then)} effects, not {len(once)}, or others: {more[:3]}")
