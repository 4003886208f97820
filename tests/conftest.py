"""What every test stands on: a stripped environment, and a private real Redis where one is asked for."""

import gc
import os
import signal
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path

import hypothesis
import pytest

from tests.environment import stripped_environment
from tests.file_order import positions
from tests.redis_server import RedisServer, StartRedis, require
from tests.small_disk import mounted_disk
from tests.web_process import StartWeb, WebProcess, callbacks_web

# Two busy cores make any example slow now and then; no test asserts a time.
hypothesis.settings.register_profile("ours", deadline=None)
hypothesis.settings.load_profile("ours")


def pytest_configure() -> None:
    # Until all is imported there is no garbage worth a search.
    gc.disable()


def pytest_collection_finish() -> None:
    # What is there now stays. To search all of it takes 0.3 s, for each collection that a test or the interpreter does.
    gc.freeze()
    gc.enable()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Sort the files for workers that run in parallel (`-n`, `--dist loadfile --no-loadscope-reorder`)."""
    if not hasattr(config, "workerinput"):
        return
    tests = Path(__file__).parent
    files = {item.path: item.path.relative_to(tests).as_posix() for item in items if item.path.is_relative_to(tests)}
    order = positions(files.values())
    items.sort(key=lambda item: order[files[item.path]] if item.path in files else len(order))


@pytest.fixture(autouse=True)
def _stripped_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take away what a developer's shell may say about servers that are not ours."""
    for name in set(os.environ) - set(stripped_environment()):
        monkeypatch.delenv(name)


@pytest.fixture(scope="session", autouse=True)
def _terminated_as_interrupted() -> Iterator[None]:
    """Let SIGTERM end the tests as Ctrl-C does: with every server and process that they started.

    SIGINT is set too: a shell starts what runs in its background with SIGINT ignored, and so would all that is started.
    """
    signums = (signal.SIGTERM, signal.SIGINT)
    before = [signal.signal(signum, signal.default_int_handler) for signum in signums]
    yield
    for signum, handler in zip(signums, before, strict=True):
        signal.signal(signum, handler)


@pytest.fixture(scope="session")
def _session_redis() -> Iterator[RedisServer]:
    require()
    with RedisServer() as server:
        yield server


@pytest.fixture
def redis_server(_session_redis: RedisServer) -> RedisServer:
    """Return the session's server, empty. A test that kills it or changes its configuration asks `start_redis`."""
    with _session_redis.client() as client:
        client.flushall()
    return _session_redis


@pytest.fixture
def start_redis() -> Iterator[StartRedis]:
    """Yield a function that starts a server of the test's own: `start_redis({"maxmemory": "20mb"})`."""
    require()
    with ExitStack() as servers:

        def start(options: Mapping[str, str] | None = None, *, port: int | None = None) -> RedisServer:
            return servers.enter_context(RedisServer(options, port=port))

        yield start


@pytest.fixture(scope="session")
def _quick_server() -> Iterator[RedisServer]:
    require()
    with RedisServer({"appendonly": "no"}) as server:
        yield server


@pytest.fixture
def quick_redis(_quick_server: RedisServer) -> RedisServer:
    """Return an empty server that writes nothing to the disk, for tests that kill thousands of workers but never it."""
    with _quick_server.client() as client:
        client.flushall()
    return _quick_server


@pytest.fixture
def start_web(tmp_path: Path) -> Iterator[StartWeb]:
    """Yield a function that starts `callbacks web` on a free port: `start_web(redis, CALLBACKS_DURABILITY="memory")`.

    `redis` is a server or a URL. `prelude` is Python that runs first in the process, to break something in it;
    `command` is run instead of `callbacks web`.
    """
    started: list[WebProcess] = []

    def start(
        redis: RedisServer | str,
        *,
        arguments: tuple[str, ...] = ("--port", "0"),
        prelude: str = "",
        command: tuple[str, ...] | None = None,
        **environment: str,
    ) -> WebProcess:
        log = tmp_path / f"web-{len(started)}.log"
        process = callbacks_web(redis, log, arguments=arguments, prelude=prelude, command=command, **environment)
        started.append(process)
        return process

    yield start
    for process in started:
        process.end()


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """Return a folder on a small file system of its own: `with ballast(disk) as make_room`."""
    with mounted_disk(tmp_path / "disk") as folder:
        yield folder
