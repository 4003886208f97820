"""What integration tests stand on: the session's web process, and the harness that runs workers in this process."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.integration.scripted_handlers import script
from tests.redis_server import RedisServer, require
from tests.web_process import WebProcess, callbacks_web
from workers.deliver import delivery


@pytest.fixture(scope="session")
def _web_redis() -> Iterator[RedisServer]:
    require()
    with RedisServer() as server:
        yield server


@pytest.fixture(scope="session")
def _session_web(_web_redis: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[WebProcess]:
    process = callbacks_web(_web_redis, tmp_path_factory.mktemp("web") / "web.log")
    yield process
    process.end()


@pytest.fixture(autouse=True)
def _clear_script() -> None:
    """Forget what another test of this process made the scripted handlers do."""
    script.__init__()  # type: ignore[misc]


@pytest.fixture
def redis_server(request: pytest.FixtureRequest) -> RedisServer:
    """Return an empty server: that of the session's web process to the tests that ask for `web`, to no other.

    The process writes its metrics and its state to Redis every two seconds.
    """
    server: RedisServer = request.getfixturevalue("_web_redis" if "web" in request.fixturenames else "_session_redis")
    with server.client() as client:
        client.flushall()
    return server


@pytest.fixture
def web(_session_web: WebProcess, redis_server: RedisServer) -> WebProcess:
    """Return the session's web process, on `redis_server`. It takes bodies of up to MAX_BODY_BYTES."""
    assert _session_web.process.poll() is None, _session_web.output
    return _session_web


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the ids of the jobs that this process runs for a handler, as it runs them."""
    job_ids: list[str] = []
    run = delivery.Deliverer.run

    def record_run(self: delivery.Deliverer, **options: Any) -> None:
        job_ids.append(options["job_id"])
        run(self, **options)

    monkeypatch.setattr(delivery.Deliverer, "run", record_run)
    return job_ids
