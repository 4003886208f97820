"""The user `ops` of deploy/redis/users.conf may store what notices said, and needs each right that it has for that."""

import pytest
import redis

from callbacks.ops.notices.service import NoticeService
from callbacks.ops.notices.store import LeaseLost, NoticeStore
from callbacks.ops.notices.targets import read_targets
from shared import connections, keys, settings
from shared.background import Background
from tests.clock import Clock
from tests.deploy.redis_rights import NOTICE_RIGHTS, denied, url, without
from tests.redis_server import RedisServer


def step(redis_url: str, clock: Clock) -> None:
    loaded = settings.load({"REDIS_URL": redis_url, "CALLBACKS_NOTIFY": "json://127.0.0.1:1/"})
    notices = NoticeService(loaded, read_targets(loaded), Background(), now_seconds=clock)
    notices.step()
    notices._store.release()
    notices._client.close()


def lose_the_lease(redis_url: str) -> None:
    with connections.connect(redis_url) as client, pytest.raises(LeaseLost):
        NoticeStore(client).update(lambda document: document)


def test_all_that_notices_do_is_allowed(restricted_redis: RedisServer) -> None:
    clock = Clock()
    for _ in range(3):
        step(url(restricted_redis, "ops"), clock)
        clock.seconds += 30
    lose_the_lease(url(restricted_redis, "ops"))

    with restricted_redis.client() as client:
        assert client.exists(keys.NOTICES)
        assert not client.exists(keys.NOTICES_SENDER)
        assert denied(client) == []


@pytest.mark.parametrize("right", sorted(NOTICE_RIGHTS))
def test_each_right_is_needed(right: str, restricted_redis: RedisServer, caplog: pytest.LogCaptureFixture) -> None:
    with restricted_redis.client() as client, without(client, "ops", right):
        if right == "+unwatch":
            with (
                connections.connect(url(restricted_redis, "ops")) as ops,
                pytest.raises(redis.exceptions.NoPermissionError),
            ):
                NoticeStore(ops).update(lambda document: document)
            return
        step(url(restricted_redis, "ops"), Clock())

    assert "action=notices_not_stored" in caplog.text
    assert "error=NoPermissionError" in caplog.text
