"""Parses DATABASE_URL, shows it without secrets, and opens connections to the database.

No message made here contains the password, not even if the value is not a URL.
"""

import os
import re
import sqlite3
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final, Self
from urllib.parse import quote, quote_plus

from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from callbacks.distribution import install_command
from workers.handlers.sql import several_hosts
from workers.handlers.sql.errors import DatabaseUnavailable, translate_error

DEFAULT_URL: Final = "sqlite:///var/callbacks.db"

# Together shorter than the handler's own time-out, so that the error is the database's and not a time-out.
CONNECT_SECONDS: Final = 5
LOCK_SECONDS: Final = 10
STATEMENT_SECONDS: Final = 30
_WAL_PAUSE_SECONDS: Final = 0.01

_POSTGRESQL: Final = ("postgresql", "postgres", "postgresql+psycopg")
_SQLITE: Final = ("sqlite", "sqlite+pysqlite")
# The file holds personal data: the service's group may read it, others may not.
_FILE_MODE: Final = 0o640
_FOLDER_MODE: Final = 0o750
# A shorter secret may be a part of any word.
_UNMISTAKABLE_CHARACTERS: Final = 8


def read_url(environ: Mapping[str, str]) -> str:
    """Return DATABASE_URL, or the content of its file. Raise OSError."""
    return read_value(environ, "DATABASE_URL")


def read_value(environ: Mapping[str, str], variable: str) -> str:
    """Return a variable's value, or the content of the file that the variable with _FILE names. Raise OSError.

    The settings, which every process reads first, have checked that only one of the two is set.
    """
    file = environ.get(f"{variable}_FILE", "").strip()
    return Path(file).read_text(encoding="utf-8") if file else environ.get(variable, "")


@dataclass(frozen=True, slots=True)
class DatabaseUrl:
    """A valid DATABASE_URL."""

    url: URL = field(repr=False)

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse a DATABASE_URL. Raise ValueError, which names the variable and quotes nothing secret."""
        text = text.strip() or DEFAULT_URL
        scheme, separator, rest = text.partition("://")
        if not separator or scheme not in _POSTGRESQL + _SQLITE:
            raise ValueError("DATABASE_URL: must begin with sqlite:/// or postgresql://")
        try:
            driver = "sqlite" if scheme in _SQLITE else "postgresql+psycopg"
            url = make_url(f"{driver}://{rest if driver == 'sqlite' else several_hosts.as_options(rest)}")
        except (ArgumentError, ValueError):
            url = None
        if url is None or "@" in (url.host or ""):
            # Without a cause, which would quote the value and perhaps the password.
            raise ValueError(
                "DATABASE_URL: cannot be read: write postgresql://user:password@host:5432/name (several hosts: "
                "@host1:5432,host2:5432/name), and %40 for an @ in the password, %2F for a /, and so on"
            )
        if driver == "sqlite":
            if url.host or not url.database or url.database == ":memory:" or url.database.startswith("file:"):
                raise ValueError(
                    "DATABASE_URL: names no file; SQLite's are sqlite:///relative/path and sqlite:////absolute/path"
                )
            try:
                is_folder = Path(url.database).is_dir()
            except OSError as exc:
                raise ValueError(f"DATABASE_URL: {url.database!r} cannot be used: {exc.strerror}") from None
            if is_folder:
                raise ValueError(f"DATABASE_URL: {url.database!r} is a folder, not a file")
        elif find_spec("psycopg") is None:
            raise ValueError(f"DATABASE_URL: psycopg is not installed: {install_command('postgres')}")
        else:
            try:
                url.get_dialect()().create_connect_args(url)
            except ArgumentError:
                raise ValueError(
                    "DATABASE_URL: its hosts and ports do not match: write host1:5432,host2:5432"
                ) from None
        return cls(url)

    @property
    def file(self) -> Path | None:
        """The path of SQLite's file; None for PostgreSQL."""
        return Path(self.url.database or "") if self.url.get_backend_name() == "sqlite" else None

    @property
    def redacted_url(self) -> str:
        """The URL for logs and messages, without password and options."""
        bare = self.url.set(drivername=self.url.get_backend_name()).set(query={})
        shown = bare.render_as_string(hide_password=True)
        hosts = several_hosts.addresses(self.url)
        before, separator, after = shown.partition("@" if "@" in shown else "://")
        return shown if hosts is None else f"{before}{separator}{hosts}{after}"

    def redact(self, text: str) -> str:
        """Return `text` without the URL's secrets, in plain or percent-encoded form.

        What may be an ordinary word or a name too, such as the user's, is masked only where it is the password: in a
        URL, or after password=.
        """
        secrets = [str(value) for key, value in self.url.query.items() if "pass" in key]
        if self.url.password:
            secrets.append(self.url.password)
        public = {self.url.username, self.url.host, self.url.database}
        for secret in filter(None, secrets):
            for spelled in {secret, quote(secret, safe=""), quote_plus(secret)}:
                if len(secret) >= _UNMISTAKABLE_CHARACTERS and not secret.isalpha() and secret not in public:
                    text = text.replace(spelled, "***")
                found = re.escape(spelled)
                text = re.sub(rf"(://[^\s/@]*?:){found}(?=@)|(pass\w*\s*=\s*['\"]?){found}(?!\w)", r"\1\2***", text)
        return text


@contextmanager
def opened_engine(address: DatabaseUrl, *, read_only: bool = False, says: str = "") -> Iterator[Engine]:
    """Yield an engine as `open_engine` returns it, and close it.

    Raise DatabaseUnavailable for an error of the database: its address, what this `says` of it, and why.
    """
    # Only an engine that writes makes a folder and a file.
    errors = SQLAlchemyError if read_only else (SQLAlchemyError, OSError)
    try:
        engine = open_engine(address, read_only=read_only)
        try:
            yield engine
        finally:
            engine.dispose()
    except errors as exc:
        error = translate_error(exc, address.redact)
    else:
        return
    # Raised without a cause: a driver's message may contain the password.
    raise DatabaseUnavailable(f"{address.redacted_url}{says}: {error}")


def open_engine(address: DatabaseUrl, *, read_only: bool = False) -> Engine:
    """Return an engine with one connection, opened at the first use; each process needs its own engine.

    With `read_only`, transactions take no write lock. Otherwise SQLite's folder and file are created.
    """
    if address.file is not None:
        return _sqlite(address, address.file, read_only=read_only)
    hosts = (several_hosts.addresses(address.url) or "").count(",") + 1
    options: dict[str, Any] = {
        # For each host; libpq takes 1 for 2.
        "connect_timeout": max(2, CONNECT_SECONDS // hosts),
        # After a failover the old primary may answer as a standby.
        **({"target_session_attrs": "read-write"} if hosts > 1 else {}),
        "application_name": "callbacks",
        "tcp_user_timeout": STATEMENT_SECONDS * 1000,  # detect a host that disappeared without closing the connection
        "prepare_threshold": None,  # connection poolers do not support prepared statements
    }
    engine = create_engine(
        address.url,
        isolation_level="READ COMMITTED",
        pool_size=1,
        max_overflow=0,
        pool_pre_ping=True,
        hide_parameters=True,
        connect_args={name: value for name, value in options.items() if name not in address.url.query},
    )

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        # For this transaction only: behind a connection pooler the session is shared.
        connection.exec_driver_sql(
            "SELECT set_config('TimeZone', 'UTC', true), "
            f"set_config('lock_timeout', '{LOCK_SECONDS}s', true), "
            f"set_config('statement_timeout', '{STATEMENT_SECONDS}s', true)"
        )

    return engine


def _sqlite(address: DatabaseUrl, file: Path, *, read_only: bool) -> Engine:
    if not read_only:
        file.parent.mkdir(_FOLDER_MODE, parents=True, exist_ok=True)
    options: dict[str, Any] = {"timeout": LOCK_SECONDS}
    engine = create_engine(
        address.url,
        pool_size=1,
        max_overflow=0,
        hide_parameters=True,
        connect_args={name: value for name, value in options.items() if name not in address.url.query},
    )

    @event.listens_for(engine, "do_connect")
    def make_file(*_: object) -> None:
        if read_only:
            return
        # SQLite would make it readable for everyone. Its -wal and -shm files get the same mode. An existing file must
        # not be opened here: closing it would release the locks that SQLite holds on it in this process.
        with suppress(FileExistsError):
            os.close(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, _FILE_MODE))

    @event.listens_for(engine, "connect")
    def connect(connection: Any, _record: object) -> None:
        connection.isolation_level = None  # we begin transactions explicitly
        if read_only:
            return
        _use_wal(connection)
        connection.execute("PRAGMA synchronous=FULL")  # what is committed survives the machine's crash
        connection.execute("PRAGMA secure_delete=ON")  # what is deleted is overwritten, by retention too

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        # A transaction that reads first and then writes would fail on a stale snapshot instead of waiting.
        connection.exec_driver_sql("BEGIN" if read_only else "BEGIN IMMEDIATE")

    return engine


def _use_wal(connection: Any) -> None:
    """Have readers and the writer not wait for each other. It is a property of the file, set once."""
    deadline = time.monotonic() + LOCK_SECONDS
    while connection.execute("PRAGMA journal_mode").fetchone() != ("wal",):
        try:
            connection.execute("PRAGMA journal_mode=WAL")
        except sqlite3.OperationalError:
            # While another process changes it too, SQLite refuses at once, whatever its time-out.
            if time.monotonic() >= deadline:
                raise
            time.sleep(_WAL_PAUSE_SECONDS)
