"""The service against a small model of it: whatever happens in whatever order, each event ends where the model has it.

Callbacks arrive and are repeated, workers and Redis are killed, the handler changes its behavior, operators replay and
discard failures. Hypothesis generates the sequences, and shortens those that show a fault.
"""

import os
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Literal, TypeAlias

import msgspec
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule, run_state_machine_as_test

from shared import callback_events, wire
from shared.batches import Accepted, Quarantined, now_ms
from shared.errors import CallbacksError
from tests.chaos.faulty_handler import NAME, Behavior, FaultyHandlerRun, faulty, known, prompt, said, set_behavior
from tests.integration import faults, recorders
from tests.integration.harness import Harness, record, reply, status
from tests.redis_server import RedisServer
from workers.deliver import retries
from workers.failures import iteration
from workers.failures.failure import QuarantinedCallback
from workers.failures.failure_list import QUARANTINE, FailureList, dead_letters_of
from workers.failures.store import FailureStore, ListSnapshot, Selection

State: TypeAlias = Literal["under way", "dropped"]
Stage: TypeAlias = Literal["expand", "faulty"]

_ROUNDS: Final = 50
_SECONDS_AN_EXAMPLE: Final = 1.5
# An exchange with Redis at which a worker dies: it pops its first job at the 15th or so, and with one job makes 50.
_EXCHANGES: Final = st.integers(15, 50)
_STAGES: Final = st.sampled_from(["expand", NAME])
# One failure of a list, or all of them.
_CHOICE: Final = st.none() | st.integers(0, 20)
_BEHAVIORS: Final[st.SearchStrategy[Behavior]] = st.sampled_from(
    ("willing", "fails", "rejects", "kills", "dooms", "willing")
)
_DEAD: Final = dead_letters_of(NAME)
_MESSAGES: Final = st.integers(0, 5)
_NEVER_READABLE: Final = b'{"data":[{"no":"record"}]}'


@dataclass
class Model:
    """What must be true of the service when it is at rest."""

    received: int = 0
    quarantined: int = 0
    dropped: int = 0
    events: dict[str, State] = field(default_factory=dict)
    behaviors: dict[str, Behavior] = field(default_factory=dict)

    def post(self, callback: Accepted) -> None:
        """Take note of a callback that was kept."""
        read = wire.read(callback.body.encode(), callback.kind)
        self.received += callback.records
        self.quarantined += len(read.faults)
        for event in callback_events.from_callback(read, source=callback.source, received_at=datetime.now(UTC)):
            self.events.setdefault(event.id, "under way")

    def end_of(self, event_id: str) -> str:
        """Say where an event must be, at rest."""
        if self.events[event_id] == "dropped":
            return "dropped"
        return "dead" if self.behaviors.get(event_id) in ("fails", "rejects") else "done"


def machine(server: RedisServer, folder: Path) -> type[RuleBasedStateMachine]:
    """Return the machine over a Redis and a folder, both its own."""

    class Machine(RuleBasedStateMachine):
        def __init__(self) -> None:
            super().__init__()
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            self.harness = Harness(server.url, faulty)
            self.harness.connection.flushall()
            self.store = FailureStore(self.harness.connection)
            self.model = Model()
            self.posted: list[Accepted] = []

        @rule(
            messages=st.lists(st.tuples(_MESSAGES, _BEHAVIORS), min_size=1, max_size=4),
            how=st.sampled_from(["DELIVRD", "SEEN"]),
            unreadable=st.booleans(),
        )
        def posts_reports(self, messages: list[tuple[int, Behavior]], how: str, unreadable: bool) -> None:
            records: list[object] = [record(str(number), how) for number, _ in messages]
            for number, behavior in messages:
                event_id = _id_of(status(record(str(number), how)))
                if event_id not in self.model.events:
                    self._set_behavior(event_id, behavior)
            self._keep(status(*records, *([{"no": "record"}] if unreadable else [])))

        @rule(number=st.integers(0, 3), request=st.integers(0, 2))
        def posts_a_reply(self, number: int, request: int) -> None:
            self._keep(reply(f"r{number}", f"q{number}-{request}"))

        @rule(message=st.none() | _MESSAGES)
        def posts_what_cannot_be_read(self, message: int | None) -> None:
            # What an earlier release could not read, this one may.
            body = _NEVER_READABLE if message is None else status(record(str(message))).body.encode()
            entry = Quarantined(kind="status", source="gw", received_ms=now_ms(), error="$", body=body)
            self.harness.accept(quarantined=[entry])
            self.model.received += 1
            self.model.quarantined += 1

        @rule(choice=st.integers(0, 100))
        def repeats_an_earlier_one(self, choice: int) -> None:
            if self.posted:
                self._keep(self.posted[choice % len(self.posted)])

        @rule(stage=_STAGES)
        def runs_a_worker(self, stage: Stage) -> None:
            FaultyHandlerRun(server.url, stage).whole()

        @rule(stage=_STAGES, at=_EXCHANGES, fault=st.sampled_from(["killed", "killed", "unsent", "lost"]))
        def breaks_a_worker(self, stage: Stage, at: int, fault: faults.Fault) -> None:
            self._bring_work_to(stage)
            FaultyHandlerRun(server.url, stage).run_with_fault(at, fault)

        @rule()
        def kills_redis(self) -> None:
            server.kill()
            server.start()
            self.harness.connection.connection_pool.disconnect()

        @rule(stage=_STAGES, after_ms=st.integers(0, 60))
        def kills_redis_under_a_worker(self, stage: Stage, after_ms: int) -> None:
            self._bring_work_to(stage)
            stage_run = FaultyHandlerRun(server.url, stage)
            process = stage_run.start()
            time.sleep(after_ms / 1000)
            self.kills_redis()
            faults.join_all([process])
            stage_run.requeue_leftovers(process.name)

        @rule(choice=st.integers(0, 20), behavior=_BEHAVIORS)
        def replays_a_dead_letter_with_another_behavior(self, choice: int, behavior: Behavior) -> None:
            chosen = self._chosen(_DEAD, choice)
            assert not isinstance(chosen, ListSnapshot)
            for event_id in chosen:
                self._set_behavior(event_id, behavior)
            self._replay(_DEAD, chosen)

        @rule(choice=_CHOICE)
        def replays_dead_letters(self, choice: int | None) -> None:
            self._replay(_DEAD, self._chosen(_DEAD, choice))

        @rule(choice=_CHOICE)
        def drops_dead_letters(self, choice: int | None) -> None:
            chosen, before = self._chosen(_DEAD, choice), self._dead()
            self._drop(_DEAD, chosen)
            for event_id in before - self._dead():
                self.model.events[event_id] = "dropped"

        @rule(choice=_CHOICE)
        def replays_the_quarantine(self, choice: int | None) -> None:
            before = self._quarantined()
            self._replay(QUARANTINE, self._chosen(QUARANTINE, choice))
            for failure_id in before.keys() - self._quarantined().keys():
                entry = before[failure_id]
                self.model.quarantined -= entry.records
                self.model.received -= entry.records
                self.model.post(Accepted("status", "gw", entry.received_ms, entry.records, entry.body.decode()))

        @rule(choice=_CHOICE)
        def drops_what_was_quarantined(self, choice: int | None) -> None:
            before = self._quarantined()
            self._drop(QUARANTINE, self._chosen(QUARANTINE, choice))
            for failure_id in before.keys() - self._quarantined().keys():
                self.model.quarantined -= before[failure_id].records
                self.model.dropped += before[failure_id].records

        def teardown(self) -> None:
            try:
                self._rest()
                self._compare()
            finally:
                self.harness.connection.close()
            super().teardown()

        def _keep(self, callback: Accepted) -> None:
            # Of today, or what of it is quarantined would be trimmed for its age.
            callback = msgspec.structs.replace(callback, received_ms=now_ms())
            self.harness.accept(callback)
            self.posted.append(callback)
            self.model.post(callback)

        def _bring_work_to(self, stage: Stage) -> None:
            if stage != "expand":
                FaultyHandlerRun(server.url, "expand").whole()

        def _set_behavior(self, event_id: str, behavior: Behavior) -> None:
            """Only while it is not under way: or nobody would know whether it meets the old behavior or the new one."""
            set_behavior(event_id, behavior)
            self.model.behaviors[event_id] = behavior

        def _dead(self) -> set[str]:
            return {letter.id for letter in iteration.iterate_summaries(self.harness.connection, NAME)}

        def _quarantined(self) -> dict[str, QuarantinedCallback]:
            return {
                row.id: self.store.read_quarantined(row.id)
                for row in iteration.iterate_quarantine(self.harness.connection)
            }

        def _chosen(self, failure_list: FailureList, choice: int | None) -> Selection:
            """Choose one failure of a list, or all of them (None)."""
            if choice is None:
                return self.store.snapshot(failure_list)
            ids = [row.id for row in iteration.iterate_rows(self.harness.connection, failure_list)]
            return ids[choice % len(ids) :][:1] if ids else []

        def _replay(self, failure_list: FailureList, chosen: Selection) -> None:
            for part in self.store.replay(failure_list, chosen):
                assert all(isinstance(why, CallbacksError) for _, why in part.failed)

        def _drop(self, failure_list: FailureList, chosen: Selection) -> None:
            assert not [part.failed for part in self.store.drop(failure_list, chosen) if part.failed]

        def _rest(self) -> None:
            for _ in range(_ROUNDS):
                if not self.harness.audit().pending:
                    return
                for stage in ("expand", NAME):
                    FaultyHandlerRun(server.url, stage).whole()
            raise AssertionError(f"it comes to no rest: {self.harness.audit().as_json()}")

        def _compare(self) -> None:
            model = self.model
            ends = {event_id: model.end_of(event_id) for event_id in model.events}
            assert self._dead() == {event_id for event_id, end in ends.items() if end == "dead"}
            assert known() == ends.keys(), "events lost, or made up"
            for event_id, end in ends.items():
                calls = said(event_id)
                # What was in hands at a kill has said nothing, so nothing excuses a second "done".
                assert calls.count("done") == (end == "done"), f"{event_id} should be {end}: {calls}"
                if end == "done":
                    assert calls[-1] == "done", "it was done, and came again"
            sums = self.harness.audit()
            assert sums.balances, sums.as_json()
            assert (sums.received, sums.unique) == (model.received, len(ends))
            assert (sums.quarantined, sums.dropped) == (model.quarantined, model.dropped)
            assert (
                sum(row.records for row in iteration.iterate_quarantine(self.harness.connection)) == model.quarantined
            )
            if ends:
                (at,) = sums.handlers
                assert (at.delivered, at.dead, at.dropped) == tuple(
                    list(ends.values()).count(end) for end in ("done", "dead", "dropped")
                )
            assert self.harness.leftover_keys() == set()

    return Machine


def _id_of(callback: Accepted) -> str:
    read = wire.read(callback.body.encode(), callback.kind)
    (event,) = callback_events.from_callback(read, source=callback.source, received_at=datetime.now(UTC))
    return event.id


def test_the_service_does_what_its_model_does(
    start_redis: Callable[..., RedisServer], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chaos_seconds: float
) -> None:
    folder = tmp_path / "run"
    monkeypatch.setenv(recorders.VARIABLE, str(folder / "calls"))
    monkeypatch.setattr(retries, "backoff_seconds", prompt)
    faults.check_at_once(monkeypatch)
    long = "CHAOS_SECONDS" in os.environ
    run_state_machine_as_test(
        machine(start_redis(), folder),
        settings=settings(
            max_examples=max(1, int(chaos_seconds / _SECONDS_AN_EXAMPLE)),
            stateful_step_count=20,
            # Inside `make test` the same sequences each time: a new one is for who looks for it.
            derandomize=not long,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            # To shorten a sequence takes minutes, and a kill need not fall on the same moment again.
            phases=[Phase.reuse, Phase.generate, Phase.shrink] if long else [Phase.generate],
            report_multiple_bugs=False,
        ),
    )
