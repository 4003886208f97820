"""A private, real PostgreSQL for tests: from Debian's packages, on a free port, in a folder of its own.

Its files are as fast as they can be, not durable; its password holds what has to be escaped in a URL. PostgreSQL
refuses to run as root, so as root it is run as Debian's user `postgres`. Only the process started here is ever ended.
"""

import os
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self
from urllib.parse import quote

import pytest

from callbacks.cli.child_processes import tied_to_parent
from tests.redis_server import free_port

PASSWORD: Final = "s3cr:t/p@ss%w?rd"

# Where a developer's own, and Debian's, live.
_FORBIDDEN_PORT: Final = 5432
_START_SECONDS: Final = 60.0
_STOP_SECONDS: Final = 30.0
_ROOT: Final = Path("/usr/lib/postgresql")


def binaries() -> Path | None:
    """Find the folder of the newest server's programs, or None."""
    versions = [path.parent for path in _ROOT.glob("*/bin/initdb")] if _ROOT.exists() else []
    found = max(versions, key=lambda path: int(path.parent.name), default=None)
    if found is None and (initdb := shutil.which("initdb")) is not None:
        found = Path(initdb).resolve().parent
    return found


def require() -> None:
    """Skip the test where there is no server; in CI (CI=true) that is a failure."""
    if binaries() is not None:
        return
    message = "no PostgreSQL: apt-get install postgresql"
    if os.environ.get("CI") == "true":
        pytest.fail(message)
    pytest.skip(message)


class PostgresServer:
    """A running server; a context manager that stops it and removes its files. Databases are made one for each test."""

    def __init__(self) -> None:
        found = binaries()
        if found is None:
            raise RuntimeError("there is no PostgreSQL")
        self._binaries = found
        self.port = free_port()
        while self.port == _FORBIDDEN_PORT:
            self.port = free_port()
        self.folder = Path(tempfile.mkdtemp(prefix="callbacks-postgres-"))
        self._data = self.folder / "data"
        self._process: subprocess.Popen[bytes] | None = None
        self._databases = 0

    def __enter__(self) -> Self:
        try:
            if os.geteuid() == 0:
                shutil.chown(self.folder, "postgres", "postgres")
            password = self.folder / "password"
            password.write_text(PASSWORD)
            options = ["--auth=scram-sha-256", f"--pwfile={password}", "--username=postgres", "--no-sync"]
            subprocess.run(
                self._as_its_user("initdb", "-D", str(self._data), "--encoding=UTF8", "--locale=C.UTF-8", *options),
                cwd=self.folder,
                check=True,
                capture_output=True,
            )
            self.start()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, _type: type[BaseException] | None, _value: BaseException | None, _traceback: TracebackType | None
    ) -> None:
        self.stop(signal.SIGQUIT)  # nobody needs its files any more
        shutil.rmtree(self.folder, ignore_errors=True)

    def url(self, database: str = "postgres", *, user: str = "postgres", password: str = PASSWORD) -> str:
        return f"postgresql://{user}:{quote(password, safe='')}@127.0.0.1:{self.port}/{database}"

    def new_database(self, *, options: str = "") -> str:
        """Make an empty database and give its URL."""
        self._databases += 1
        name = f"test_{self._databases}"
        self.execute(f"CREATE DATABASE {name} {options}")
        return self.url(name)

    def new_schema(self) -> str:
        """Make an empty schema, which is as good as a database and much cheaper, and give the URL that leads there."""
        self._databases += 1
        self.execute(f"CREATE SCHEMA test_{self._databases}")
        return f"{self.url()}?options=-csearch_path%3Dtest_{self._databases}"

    def execute(self, statement: str, *, url: str = "") -> list[tuple[Any, ...]]:
        """Run a statement as the superuser, outside of any transaction; give what it answers."""
        import psycopg  # noqa: PLC0415 # where there is no server, there need be no client

        with psycopg.connect(url or self.url(), autocommit=True) as connection:
            cursor = connection.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []

    def start(self) -> None:
        """Start the server on the files that are there, and wait until it answers."""
        options = {
            "port": self.port,
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": "",
            "fsync": "off",
            "max_connections": 50,
            "shared_buffers": "32MB",
        }
        command = self._as_its_user("postgres", "-D", str(self._data), leash=True)
        for name, value in options.items():
            command += ["-c", f"{name}={value}"]
        with (self.folder / "postgres.log").open("ab") as log:
            self._process = subprocess.Popen(command, cwd=self.folder, stdout=log, stderr=log, start_new_session=True)
        self._wait_until_ready()

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """End the server and its connections, by default in order ("fast"); a second call does nothing."""
        process, self._process = self._process, None
        if process is None:
            return
        process.send_signal(how)
        try:
            process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def _as_its_user(self, program: str, *arguments: str, leash: bool = False) -> list[str]:
        command = [str(self._binaries / program), *arguments]
        if os.geteuid() != 0:
            return tied_to_parent(command) if leash else command
        # A change of user would take the leash off, so here it is put on after that.
        user = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"]
        return [*user, *(["--pdeathsig", "INT"] if leash else []), "--", *command]

    def _wait_until_ready(self) -> None:
        import psycopg  # noqa: PLC0415 # as above

        deadline = time.monotonic() + _START_SECONDS
        while time.monotonic() < deadline:
            if self._process is None or self._process.poll() is not None:
                break
            try:
                self.execute("SELECT 1")
            except psycopg.OperationalError:
                time.sleep(0.05)
            else:
                return
        log = (self.folder / "postgres.log").read_text(errors="replace")
        raise RuntimeError(f"PostgreSQL did not start:\n{log}")
