"""DATABASE_URL: what it may be, how it is shown, and connections to what it names.

No text made here carries its password, not even when what was written is no URL at all.
"""

import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final, Self
from urllib.parse import quote, quote_plus

from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError

DEFAULT_URL: Final = "sqlite:///var/callbacks.db"

# Together they are below the handler's own limit, so that the database's words are heard and not the alarm.
CONNECT_SECONDS: Final = 5
LOCK_SECONDS: Final = 10
STATEMENT_SECONDS: Final = 30

_POSTGRESQL: Final = ("postgresql", "postgres", "postgresql+psycopg")
_SQLITE: Final = ("sqlite", "sqlite+pysqlite")
# People's own texts and numbers: the service's group may read them, others may not.
_FILE_MODE: Final = 0o640
_FOLDER_MODE: Final = 0o750


def read_url(environ: Mapping[str, str]) -> str:
    """Give DATABASE_URL, or what the file holds that DATABASE_URL_FILE names. Raises OSError.

    The settings, which every process reads first, have seen to it that not both are set and that the file is one.
    """
    file = environ.get("DATABASE_URL_FILE", "").strip()
    return Path(file).read_text(encoding="utf-8") if file else environ.get("DATABASE_URL", "")


@dataclass(frozen=True, slots=True)
class DatabaseUrl:
    """A DATABASE_URL that was found to be well-formed."""

    url: URL = field(repr=False)

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a DATABASE_URL. Raises ValueError, which names the variable and quotes nothing secret."""
        text = text.strip() or DEFAULT_URL
        scheme, separator, rest = text.partition("://")
        if not separator or scheme not in _POSTGRESQL + _SQLITE:
            raise ValueError("DATABASE_URL: must begin with sqlite:/// or postgresql://")
        try:
            driver = "sqlite" if scheme in _SQLITE else "postgresql+psycopg"
            url = make_url(f"{driver}://{rest}")
        except (ArgumentError, ValueError):
            url = None
        if url is None or "@" in (url.host or ""):
            # Not `from`: the cause quotes what could be the password.
            raise ValueError(
                "DATABASE_URL: cannot be read: write postgresql://user:password@host:5432/name, and %40 for an @ "
                "in the password, %2F for a /, and so on"
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
            raise ValueError("DATABASE_URL: psycopg is not installed: pip install 'callbacks[postgres]'")
        return cls(url)

    @property
    def file(self) -> Path | None:
        """The file, if it is SQLite's."""
        return Path(self.url.database or "") if self.url.get_backend_name() == "sqlite" else None

    @property
    def redacted_url(self) -> str:
        """The address for logs and messages: without password and options."""
        bare = self.url.set(drivername=self.url.get_backend_name()).set(query={})
        return bare.render_as_string(hide_password=True)

    def redact(self, text: str) -> str:
        """Give `text` without the secrets that the address holds, however they were spelled."""
        secrets = [str(value) for key, value in self.url.query.items() if "pass" in key]
        if self.url.password:
            secrets.append(self.url.password)
        for secret in filter(None, secrets):
            for spelled in (secret, quote(secret, safe=""), quote_plus(secret)):
                text = text.replace(spelled, "***")
        return text


def open_engine(address: DatabaseUrl, *, read_only: bool = False) -> Engine:
    """Give an engine with one connection, which is made when it is first used and is this process's own.

    With `read_only` transactions take no lock for writing; else SQLite's folder and file are made.
    """
    if address.file is not None:
        return _sqlite(address, address.file, read_only=read_only)
    options: dict[str, Any] = {
        "connect_timeout": CONNECT_SECONDS,
        "application_name": "callbacks",
        "tcp_user_timeout": STATEMENT_SECONDS * 1000,  # a host that is gone without a word is noticed
        "prepare_threshold": None,  # poolers between us and the server know no prepared statements
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
        # For this transaction alone: behind a pooler the session is not ours.
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
        # SQLite would make it readable for everyone. Its -wal and -shm get the file's own mode. One that is there
        # must not be opened here: closing it would take away the locks that SQLite has on it in this process.
        with suppress(FileExistsError):
            os.close(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, _FILE_MODE))

    @event.listens_for(engine, "connect")
    def connect(connection: Any, _record: object) -> None:
        connection.isolation_level = None  # transactions begin where we say so
        if read_only:
            return
        # Readers and the writer do not wait for each other. It is a property of the file, so it is asked for once.
        if connection.execute("PRAGMA journal_mode").fetchone() != ("wal",):
            connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")  # what is committed survives the machine's crash

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        # A transaction that reads and then writes could not wait for another's: its snapshot would be too old.
        connection.exec_driver_sql("BEGIN" if read_only else "BEGIN IMMEDIATE")

    return engine
