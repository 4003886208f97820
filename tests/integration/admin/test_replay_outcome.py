"""A replay says what became of the dead letters that it put back: delivered, dead again, or still waiting."""

from collections.abc import Callable, Iterator

import pytest
from click.testing import CliRunner

from callbacks import Reject, ReportEvent, Retry
from callbacks.cli.main import main
from tests.integration.harness import Harness, open_harness
from tests.integration.scripted_handlers import accept_and_expand, script, single
from tests.redis_server import RedisServer
from workers.admin import replay_outcome
from workers.admin.action_log import Action, ActionLog
from workers.admin.bulk_action import BulkActions, RemainingWork
from workers.failures.cursor import Cursor


@pytest.fixture
def harness(quick_redis: RedisServer) -> Iterator[Harness]:
    with open_harness(quick_redis.url, single) as made:
        yield made


def reject(*message_ids: str) -> Callable[[ReportEvent], None]:
    def act(event: ReportEvent) -> None:
        if event.message_id in message_ids:
            raise Reject("closed")
        if event.message_id == "later":
            raise Retry(3600)

    return act


def replay_all(harness: Harness) -> str:
    actions = BulkActions(harness.connection)
    work = RemainingWork(task="replay", handler="single", cursor=Cursor.before(10**14))
    action_id = actions.start(Action(who="anna", by="page", what="replay", where="dead:single"), work)
    actions.run(action_id, is_stopping=bool)
    return action_id


def outcome_text(harness: Harness, action_id: str) -> str:
    action = ActionLog(harness.connection).find(action_id)
    assert action is not None
    found = replay_outcome.read_outcome(harness.connection, action)
    return "" if found is None else found.text


def test_it_counts_what_was_delivered_what_is_dead_again_and_what_waits(harness: Harness) -> None:
    accept_and_expand(harness, "a", "b", "c", "later")
    script.act = reject("a", "b", "c")
    harness.deliver(single)
    script.act = reject("a", "b", "c", "later")
    action_id = replay_all(harness)
    assert outcome_text(harness, action_id) == "3 put back; delivered 0, dead again 0, still waiting 3"

    script.act = reject("a")
    harness.deliver(single)

    assert outcome_text(harness, action_id) == "3 put back; delivered 2, dead again 1, still waiting 0"


def test_an_event_that_failed_and_is_retried_still_waits(harness: Harness) -> None:
    accept_and_expand(harness, "later", "a")
    script.act = reject("later", "a")
    harness.deliver(single)
    action_id = replay_all(harness)
    script.act = reject()
    harness.deliver(single)

    assert outcome_text(harness, action_id) == (
        "2 put back; delivered 1, dead again 0, still waiting 1 (1 retry scheduled)"
    )


def test_without_a_log_it_counts_what_is_dead_again(harness: Harness) -> None:
    harness.log_bytes = 0
    accept_and_expand(harness, "a", "b")
    script.act = reject("a", "b")
    harness.deliver(single)
    action_id = replay_all(harness)
    script.act = reject("a")
    harness.deliver(single)

    assert outcome_text(harness, action_id) == (
        "2 put back; dead again 1, delivered or still waiting 1 (no delivery log)"
    )


def test_the_command_names_the_replay_and_shows_its_outcome(harness: Harness) -> None:
    accept_and_expand(harness, *(f"m{number}" for number in range(3)))
    script.act = reject("m0", "m1", "m2")
    harness.deliver(single)
    run = CliRunner(env={"REDIS_URL": harness.url})

    replayed = run.invoke(main, ("dead", "replay", "single", "--all"))
    assert replayed.stdout == "replayed: 3\n"
    action_id = replayed.stderr.rpartition("outcome ")[2].partition("`")[0]
    harness.deliver(single)

    assert run.invoke(main, ("dead", "outcome", action_id)).stdout == (
        "3 put back; delivered 0, dead again 3, still waiting 0\n"
    )
    unknown = run.invoke(main, ("dead", "outcome", "0" * 20))
    assert unknown.exit_code == 1
    assert "no replay of dead letters in the last 24 hours" in unknown.stderr
