"""Retention in Redis: entries of the stream, operators' actions, failures by their own setting; and its state."""

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from shared import batches, keys, retention, settings
from shared.background import Background
from shared.events import to_unix_ms
from shared.metrics import Metrics
from tests.redis_server import RedisServer
from workers.admin.action_log import Action, ActionLog
from workers.admin.action_trimmer import ActionTrimmer
from workers.handlers.stream import retention as stream_retention
from workers.retention.service import RetentionService
from workers.retention.stores import AgingStore, RetentionFailed, open_stores

DAY_MS = 86_400_000


def never_stop(_: float) -> bool:
    return False


def test_entries_of_the_stream_that_are_too_old_are_removed_to_the_last_one(quick_redis: RedisServer) -> None:
    now_ms = batches.now_ms()
    with quick_redis.client() as client:
        for number in range(250):
            client.xadd("callbacks", {"id": str(number)}, id=f"{now_ms - 31 * DAY_MS + number}-0")
        client.xadd("callbacks", {"id": "new"}, id=f"{now_ms - 29 * DAY_MS}-0")
        before = datetime.now(UTC) - timedelta(days=30)

        oldest = stream_retention.find_oldest(quick_redis.url, "callbacks")
        assert oldest is not None
        assert to_unix_ms(oldest) == now_ms - 31 * DAY_MS
        assert stream_retention.remove_old(quick_redis.url, "callbacks", before, wait=never_stop) == 250
        assert stream_retention.remove_old(quick_redis.url, "callbacks", before, wait=never_stop) == 0

        found: Any = client.xrange("callbacks")
        assert [fields["id"] for _, fields in found] == ["new"]
    assert stream_retention.find_oldest(quick_redis.url, "none") is None


def test_actions_that_are_too_old_leave_the_log(quick_redis: RedisServer) -> None:
    with quick_redis.client(decode_responses=False) as client:
        log = ActionLog(client)
        old, new = (log.start(Action(who="ann", by="page", what="drop", where="quarantine")) for _ in range(2))
        client.zadd(keys.ACTIONS, {old: batches.now_ms() - 7 * DAY_MS})

        trimmer = ActionTrimmer(connection=client, days=7)
        trimmer.tick()

        assert not trimmer.is_due
        assert [one.action_id for one in log.list_newest(limit=9).items] == [new]
        assert not client.exists(keys.action(old))


class FakeClockStore:
    """A store with one old item; it can be out of order."""

    def __init__(self) -> None:
        self.oldest: datetime | None = datetime.now(UTC) - timedelta(days=9)
        self.broken = False

    def find_oldest(self) -> datetime | None:
        if self.broken:
            raise RetentionFailed("disk on fire")
        return self.oldest

    def remove_old(self, before: datetime, wait: Callable[[float], bool]) -> int:
        assert self.oldest is not None
        assert self.oldest < before
        self.oldest = None
        return 1


def test_a_store_that_fails_stops_no_other_and_both_are_shown(
    quick_redis: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    first, second = FakeClockStore(), FakeClockStore()
    first.broken = True
    stores = [
        AgingStore(name=name, days=7, find_oldest=one.find_oldest, remove_old=one.remove_old)
        for name, one in (("sql", first), ("jsonl@web-1", second))
    ]
    metrics = Metrics()
    with quick_redis.client(decode_responses=False) as client:
        service = RetentionService(stores, connection=client, metrics=metrics, background=Background())
        with caplog.at_level("INFO"):
            service.step()
        states = retention.parse_states(client.hgetall(keys.RETENTION), now_seconds=time.time())

        assert [(one.store, one.oldest_ms, one.error) for one in states] == [
            ("jsonl@web-1", None, ""),
            ("sql", None, "disk on fire"),
        ]
        assert metrics.snapshot() == {"retention_removed|jsonl": 1}
        assert "action=retention_removed store=jsonl@web-1 items=1 days=7" in caplog.text
        assert 'action=retention_failed store=sql count=1 error="disk on fire"' in caplog.text


def test_what_the_setting_names_is_opened_for_the_handlers_that_are_served(
    quick_redis: RedisServer, tmp_path: Path
) -> None:
    loaded = settings.load(
        {
            "REDIS_URL": quick_redis.url,
            "CALLBACKS_RETENTION_DAYS": "30",
            "CALLBACKS_SQL_RETENTION_DAYS": "90",
            "DATABASE_URL": "mysql://secret@host/x",
            "CALLBACKS_JSONL_DIR": str(tmp_path / "events"),
        }
    )
    by_name = {store.name.partition("@")[0]: store for store in open_stores(loaded, ("sql", "jsonl", "stream", "log"))}

    assert {name: store.days for name, store in by_name.items()} == {"sql": 90, "jsonl": 30, "stream": 30}
    assert by_name["jsonl"].find_oldest() is by_name["stream"].find_oldest() is None
    with pytest.raises(RetentionFailed, match="DATABASE_URL: must begin with"):
        by_name["sql"].find_oldest()
    assert open_stores(settings.load({"REDIS_URL": quick_redis.url}), ("sql", "jsonl")) == []
