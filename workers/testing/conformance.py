"""Checks that each handler should pass: subclass `Conformance` in a test module of yours.

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
from shared import phone_numbers
from shared.counted import counted
from shared.events import Event
from shared.number_search import NumberSearch
from workers.declaration import ATTRIBUTE, Forget, Handler
from workers.deliver.call.forget_function import opened_forget
from workers.signals import Reject
from workers.testing import open_resources, task_tracker
from workers.testing.interruption import Interrupted, can_be_interrupted
from workers.testing.sample_events import ODD, ORDINARY, incomplete_samples_for, samples_for
from workers.testing.worker import Result, Worker

# A handler has fewer points where it can be interrupted, or fails the check earlier.
_MAX_INTERRUPTIONS: Final = 200


class Conformance:
    """Nine checks of one handler, each a test. Set `handler`, and return what it has done from `effects`.

    If something has to be prepared first, override the fixture `callbacks_handler` instead of `handler`: it returns the
    handler, and what it stores in `self` is available in `effects`. The checks deliver about a thousand events.
    """

    handler: ClassVar[Callable[..., Any]]

    def effects(self) -> Collection[object]:
        """Return everything that the handler has done so far: rows, lines, requests.

        An event must have the same effects whether it came once or twice, on its own or with others. If the other side
        detects repetitions by the event's `id`, return distinct ids.
        """
        raise NotImplementedError(f"{type(self).__name__} must say what its handler has done: def effects(self)")

    def bad_events(self) -> Sequence[Event]:
        """Return events that the handler rejects or fails at, if there are any: they must not affect other events."""
        return ()

    @pytest.fixture
    def callbacks_handler(self) -> Callable[..., Any]:
        """Return the handler; override it to prepare what the handler needs."""
        found = inspect.getattr_static(self, "handler", None)
        if found is None:
            pytest.fail(f"{type(self).__name__} must say which handler it tests: handler = …")
        function: Callable[..., Any] = found.__func__ if isinstance(found, staticmethod) else found
        return function

    @pytest.fixture
    def callbacks_declaration(self, callbacks_handler: Callable[..., Any]) -> Handler:
        """Return the declaration that @handler attached."""
        declared = getattr(callbacks_handler, ATTRIBUTE, None)
        if not isinstance(declared, Handler):
            pytest.fail(f"{callbacks_handler!r} is not decorated with @handler")
        return declared

    def test_every_event_is_handled_or_rejected_with_a_reason(self, callbacks_declaration: Handler) -> None:
        """No event makes the handler fail; an event that it does not accept is rejected with a reason."""
        ordinary = [name for name in samples.NAMES if name not in ODD]
        _expect_handled(callbacks_declaration, samples_for(callbacks_declaration, ordinary))

    def test_odd_texts_are_handled_or_rejected_with_a_reason(self, callbacks_declaration: Handler) -> None:
        """NUL, emoji, right-to-left text, line breaks, quotes and 100,000 characters do not make the handler fail."""
        _expect_handled(callbacks_declaration, samples_for(callbacks_declaration, ODD))

    def test_any_field_may_be_missing(self, callbacks_declaration: Handler) -> None:
        """An optional field that is None does not make the handler fail."""
        _expect_handled(callbacks_declaration, incomplete_samples_for(callbacks_declaration))

    def test_an_unknown_status_is_handled_or_rejected_with_a_reason(self, callbacks_declaration: Handler) -> None:
        """A new status or channel of the gateway does not make the handler fail."""
        statuses, source = ("FORWARDED_TWICE", "read", "1", "ж" * 300), _source(callbacks_declaration)
        events: dict[str, Event] = {
            f"status {status[:20]}": samples.report(status, source=source) for status in statuses
        }
        events["channel RCS"] = samples.report(channel="RCS", source=source)
        events["reply by RCS"] = samples.reply(channel="RCS", source=source)
        wanted = {name: event for name, event in events.items() if callbacks_declaration.wants(event)}
        if not wanted:
            pytest.skip("its filters exclude unknown statuses and channels")
        _expect_handled(callbacks_declaration, wanted)

    def test_the_same_event_twice_is_one_effect(self, callbacks_declaration: Handler) -> None:
        """A repeated event, in the same process or in another one after it died, has no second effect."""
        events = list(samples_for(callbacks_declaration).values())
        before = self._count()
        with Worker(callbacks_declaration) as worker:
            done = [event for event in events if worker.deliver(event).outcome == "done"]
            once = self._effects()
            if not done:
                pytest.fail("the handler accepted none of the samples, so nothing could be tested")
            if len(once) == before:
                pytest.fail(
                    f"effects() shows no effect of {counted(len(done), 'accepted event')}: return what the handler did"
                )
            _expect_done_twice([worker.deliver(event) for event in done])
            _expect_same(once, self._effects(), "came twice to one process")
        with Worker(callbacks_declaration) as worker:
            _expect_done_twice(worker.deliver_all(done))
        _expect_same(once, self._effects(), "came again to another process, together")

    def test_a_bad_event_harms_no_other(self, callbacks_declaration: Handler) -> None:
        """Events have the same results one by one and all together, also next to bad events."""
        bad = [event for event in self.bad_events() if callbacks_declaration.wants(event)]
        with Worker(callbacks_declaration) as worker:
            before = self._count()
            singly = {name: worker.deliver(event).outcome for name, event in samples_for(callbacks_declaration).items()}
            singly_count = self._count() - before
            fresh = samples_for(callbacks_declaration)
            mixed = [*bad, *fresh.values()]
            before = self._count()
            results = worker.deliver_all(mixed)
            together_count = self._count() - before
        together = {name: result.outcome for name, result in zip(fresh, results[len(bad) :], strict=True)}
        differing = {name: (singly[name], together[name]) for name in singly if singly[name] != together[name]}
        if differing:
            changes = "; ".join(
                f"{name}: {first} one by one, {then} together" for name, (first, then) in differing.items()
            )
            pytest.fail(f"the result of an event depends on the others: {changes}")
        if any(result.outcome == "done" for result in results[: len(bad)]):
            pytest.fail("bad_events() returned an event that the handler accepted")
        if singly_count != together_count:
            pytest.fail(f"events one by one had {counted(singly_count, 'effect')}, the same together {together_count}")

    def test_ended_by_a_timeout_anywhere_it_is_one_effect_at_the_next_attempt(
        self, callbacks_declaration: Handler
    ) -> None:
        """After a time-out at any point the event is not done, and the next attempt completes the effect."""
        if not can_be_interrupted(callbacks_declaration):
            pytest.skip(f"the source of {callbacks_declaration.location} is not available")
        expected = self._growth(callbacks_declaration, _plain(callbacks_declaration))
        for point in range(1, _MAX_INTERRUPTIONS):
            events = _plain(callbacks_declaration)
            interrupted = Interrupted(callbacks_declaration, at=point)
            before = self._count()
            with Worker(interrupted.handler) as worker:
                results = worker.deliver_all(events)
            if not interrupted.was_interrupted:
                return
            retried = [event for event, result in zip(events, results, strict=True) if result.outcome != "done"]
            _expect_done(callbacks_declaration, retried)
            grown = self._count() - before
            if grown != expected:
                how = "was done" if not retried else "was retried"
                pytest.fail(
                    f"interrupted by a time-out at point {point}, it {how} and had {grown} effects, not {expected}"
                )

    def test_nothing_is_left_open(self, callbacks_declaration: Handler) -> None:
        """When the process stops, the handler leaves no thread, task, file or connection open."""
        before = open_resources.list_open()
        watched, left_tasks = task_tracker.track(callbacks_declaration)
        for _ in range(2):
            with Worker(watched) as worker:
                worker.deliver_all(_plain(callbacks_declaration))
        left = [*left_tasks, *open_resources.find_left_open(before)]
        if left:
            pytest.fail(f"still open after the worker stopped: {'; '.join(left)}")

    def test_forget_erases_one_person_alone(self, callbacks_declaration: Handler) -> None:
        """The function `forget=` erases every effect of a number and none of another, and is harmless when repeated."""
        forget = callbacks_declaration.forget
        if forget is None:
            pytest.skip("it declares no forget=")
        theirs, others = _plain(callbacks_declaration), _plain(callbacks_declaration)
        number = _number_of(theirs[0])
        _expect_done(callbacks_declaration, [event for event in theirs if _number_of(event) == number])
        _expect_done(callbacks_declaration, others)
        search = NumberSearch([number])
        expected = [effect for effect in self._effects() if not search.find_in(effect)]
        before = self._count()
        if before == len(expected):
            pytest.fail("effects() does not show the number of an event: return what the handler stores of it")
        erased = _call_forget(callbacks_declaration, forget, number)
        if self._effects() != expected:
            pytest.fail(f"after forget there are {self._count()} effects, not {len(expected)}: some of another person")
        if erased != before - len(expected):
            pytest.fail(f"forget returned {erased!r}, and erased {before - len(expected)}")
        again = _call_forget(callbacks_declaration, forget, number)
        if (again, self._effects()) != (0, expected):
            pytest.fail(f"forget, called again, returned {again!r} and not 0, or erased more")

    def _effects(self) -> list[str]:
        return sorted(map(repr, self.effects()))

    def _count(self) -> int:
        return len(self.effects())

    def _growth(self, declared: Handler, events: Sequence[Event]) -> int:
        before = self._count()
        _expect_done(declared, events)
        return self._count() - before


def _plain(declared: Handler) -> list[Event]:
    """Return an ordinary event of each of its kinds, or two for a batch handler."""
    return [event for _ in range(2 if declared.batch else 1) for event in samples_for(declared, ORDINARY).values()]


def _number_of(event: Event) -> str:
    return phone_numbers.comparable((event.sender if event.kind == "reply" else event.recipient) or "")


def _call_forget(declared: Handler, forget: Forget, number: str) -> object:
    with opened_forget(declared, forget) as call:
        return call(number)


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
            pytest.fail(f"the handler does not accept an ordinary event: {result}\n{result.traceback}", pytrace=False)


def _expect_done_twice(results: Sequence[Result]) -> None:
    for result in results:
        if result.outcome != "done":
            pytest.fail(
                f"an event that was done is not done when it comes again, and would become a dead letter: {result}"
            )


def _expect_same(once: list[str], then: list[str], how: str) -> None:
    if once != then:
        more = [effect for effect in then if effect not in once] or then
        pytest.fail(
            f"events that {how} had {counted(len(then), 'effect')}, not {len(once)}, or different ones: {more[:3]}"
        )
