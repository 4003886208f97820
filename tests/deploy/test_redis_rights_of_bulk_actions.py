"""The user `ops` of deploy/redis/users.conf may do what its page offers, and needs each right that it has for that."""

from collections.abc import Iterator
from contextlib import closing

import pytest
import redis

from shared import connections, keys, queues
from tests.deploy.redis_rights import BULK_ACTION_RIGHTS, denied, url, without
from tests.integration.failures.failure_lists import die, ids, quarantined, refusing
from tests.integration.harness import RECEIVED_MS, Harness
from tests.integration.scripted_handlers import accept_and_expand, fail_for, script, single
from tests.redis_server import RedisServer
from workers.admin import bulk_action
from workers.admin.action_log import Action, ActionLog
from workers.admin.bulk_action import BulkActions, RemainingRetries, RemainingWork, Task
from workers.admin.retry_rows import RetryCursor, RetryFilter
from workers.admin.scheduled_retries import ScheduledRetries
from workers.failures.cursor import Cursor
from workers.runtime import pause


@pytest.fixture
def harness(restricted_redis: RedisServer) -> Iterator[Harness]:
    harness = Harness(restricted_redis.url, refusing, single)
    with closing(harness.connection):
        yield harness


def run_every_action(harness: Harness, url: str) -> None:
    """Do all that the page offers, as the user of `url`. Raises redis.RedisError."""
    harness.connection.flushall()
    harness.accept(quarantined=[quarantined(number) for number in range(4)])
    die(harness, "1", "2", "3", "4")
    with connections.connect(url) as client:
        for handler in (None, "refusing"):
            for task in ("replay", "drop"):
                run_action(client, task, handler)
        accept_and_expand(harness, "7", "8")
        script.act = fail_for("7", "8")
        harness.deliver(single)
        bulk_actions = BulkActions(client)
        given_up = Action(who="anna", by="page", what="give_up", where="retries")
        work = RemainingRetries(task="give_up", cursor=RetryCursor())
        bulk_actions.run(bulk_actions.start(given_up, work), is_stopping=bool)
        accept_and_expand(harness, "5", "6")
        script.act = fail_for("5", "6")
        harness.deliver(single)
        (first, _) = (row.job_id for row in ScheduledRetries(client).iterate(RetryFilter()))
        for work in (RemainingRetries(job_ids=(first,)), RemainingRetries(cursor=RetryCursor())):
            action = Action(who="anna", by="page", what="retry", where="retries")
            bulk_actions = BulkActions(client)
            bulk_actions.run(bulk_actions.start(action, work), is_stopping=bool)
        for what in ("pause", "resume"):
            with ActionLog(client).record(Action(who="anna", by="page", what=what, where="handler:refusing")):
                pause.pause(client, "refusing") if what == "pause" else pause.resume(client, "refusing")
        # Half of an act is left, and gone on with.
        bulk_actions = BulkActions(client)
        one = bulk_actions.start(
            Action(who="anna", by="page", what="drop", where="quarantine"),
            RemainingWork(task="drop", handler=None, cursor=Cursor.before(RECEIVED_MS)),
        )
        bulk_actions.stop(one)
        bulk_actions.run(bulk_actions.resume(one, "berta"), is_stopping=bool)
    assert len(harness.waiting_jobs(queues.delivery_queue("single"))) == 2
    assert ids(harness, keys.QUARANTINE) == ids(harness, keys.dead("refusing")) == []
    assert harness.audit().balances


def run_action(client: redis.Redis, task: Task, handler: str | None) -> None:
    bulk_actions = BulkActions(client)
    failure_list = RemainingWork(task=task, handler=handler).failure_list
    named = tuple(member.decode() for member in client.zrange(failure_list.index, 0, 1))  # type: ignore[union-attr]
    action = Action(who="anna", by="page", what=task, where=failure_list.name)
    bulk_actions.run(bulk_actions.start(action, RemainingWork(task=task, handler=handler, ids=named)), is_stopping=bool)


@pytest.mark.parametrize("user", ["ops", "worker"])  # the command line does the same, as a worker
def test_all_that_the_page_offers_is_allowed(harness: Harness, restricted_redis: RedisServer, user: str) -> None:
    run_every_action(harness, url(restricted_redis, user))

    with restricted_redis.client() as client:
        assert denied(client) == []


@pytest.mark.parametrize("right", sorted(BULK_ACTION_RIGHTS))
def test_each_right_is_needed(
    harness: Harness, restricted_redis: RedisServer, right: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keys, "ACTIONS_KEPT", 2)  # so that old acts go
    monkeypatch.setattr(bulk_action, "_FAILURES_PER_STEP", 1)
    with restricted_redis.client() as client, without(client, "ops", right):
        with pytest.raises(redis.RedisError):
            run_every_action(harness, url(restricted_redis, "ops"))
        assert denied(client), right
