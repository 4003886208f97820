"""The user `ops` of deploy/redis/users.conf may note that a session has ended, which needs a right of its own."""

from pathlib import Path

import httpx
import pytest

from tests.acceptance.processes import started
from tests.deploy.redis_rights import denied, url, without
from tests.ops.running_service import PASSWORD, Service
from tests.ops.sign_in import client_of, sign_in, token
from tests.redis_server import RedisServer


@pytest.mark.parametrize("right", ["~cb:revoked-session:*", "+set", None])
def test_what_was_signed_out_of_is_noted_for_all_processes(
    right: str | None,
    restricted_redis: RedisServer,
    tmp_path: Path,
) -> None:
    environment = {"REDIS_URL": url(restricted_redis, "ops"), "CALLBACKS_OPS_PASSWORD": PASSWORD}
    with started(tmp_path, environment) as start, restricted_redis.client() as client:
        service = Service(restricted_redis, start, tmp_path)
        service.start_ops()
        with client_of(service) as page:
            sign_in(page)
            if right is None:
                sign_out(page)
                assert denied(client) == []
                assert len(client.keys("cb:revoked-session:*")) == 1
                return
            with without(client, "ops", right):
                sign_out(page)
                assert denied(client)


def sign_out(page: httpx.Client) -> None:
    assert page.post("/sign-out", data={"csrf": token(page, "/live")}).status_code == 303
