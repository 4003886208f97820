"""deploy/redis/users.conf, word for word: a Redis that ends and starts again has all that was acknowledged."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from shared import audit
from tests.acceptance.processes import get, started
from tests.deploy.deployment import BUNDLE, DEPLOY, environment, post
from tests.docs import pages
from tests.redis_server import RedisServer, free_port, require


class AsDelivered(RedisServer):
    """A server with the users of the file, of whom `admin` looks on."""

    @property
    def url(self) -> str:
        return self.url_of("admin")

    def url_of(self, user: str) -> str:
        return f"redis://{user}:CHANGE-ME-{user}@127.0.0.1:{self.port}/0"


@pytest.fixture
def server() -> Iterator[AsDelivered]:
    require()
    with AsDelivered({"include": str(DEPLOY / "redis" / "users.conf")}) as server:
        yield server


def test_what_was_acknowledged_is_there_after_a_crash(server: AsDelivered, tmp_path: Path) -> None:
    """Redis replays transactions with the rights of `default`, and drops those that it may not do."""
    port = free_port()
    with started(tmp_path, environment(server.url_of("web"), port, tmp_path)) as start:
        web = start("web")
        web.until(lambda: get(f"http://127.0.0.1:{port}/readyz")[0] == 200, "readiness")
        assert post(f"http://127.0.0.1:{port}")[0] == 200
    with server.client(decode_responses=False) as client:
        before = audit.run(client)
    assert before.waiting == BUNDLE.count(b'"message_id"')

    server.kill()
    server.start()

    with server.client(decode_responses=False) as client:
        assert audit.run(client) == before


def test_nobody_signs_in_as_the_default_user(server: AsDelivered) -> None:
    for given in ("", ":@", "default:@", ":CHANGE-ME-default@"):
        address = f"redis://{given}127.0.0.1:{server.port}"
        with redis.Redis.from_url(address) as stranger, pytest.raises(redis.AuthenticationError):
            stranger.get("x")


def test_the_admin_may_do_what_the_runbook_asks_of_redis(server: AsDelivered) -> None:
    runbook = pages.text("docs/operations.md")
    asked = re.findall(r'^(?:while )?redis-cli -u "\$REDIS_URL" ([^|\n]+)', runbook, re.MULTILINE)
    assert len(asked) > 3
    with server.client() as client:
        command: Any = client.execute_command
        for line in asked:
            command(*shlex.split(line))
