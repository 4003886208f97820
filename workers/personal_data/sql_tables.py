"""The tables of the handler `sql`: rows that mention a number are deleted, or stay for statistics under a pseudonym.

An opt-out stays in both cases, under a keyed digest of the number: erasing it would have its sender written to again.

Each table is read once, whatever the number of numbers, and only its texts. What is found is changed in short
transactions, so workers wait for no longer than for each other. At the end freed pages are overwritten.
"""

import contextlib
import time
from collections.abc import Iterator, Sequence
from typing import Any, Final

from sqlalchemy import Column, Connection, Engine, Table, Text, select

from shared.counted import counted
from shared.events import rfc3339
from shared.number_search import NumberSearch, candidates
from shared.setting_values import SqlErasure
from workers.handlers.optout import forgotten
from workers.handlers.sql import schema
from workers.handlers.sql.database_url import DatabaseUrl, opened_engine
from workers.handlers.sql.errors import DatabaseUnavailable
from workers.handlers.sql.tables import messages, opt_outs, replies, statuses
from workers.personal_data.report import FoundItem, StoreResult, StoreUnreadable

_UNTIL: Final = "until it is erased"
_TABLES: Final = (messages, statuses, replies, opt_outs)
_ROWS_PER_READ: Final = 5000
_ROWS_PER_STEP: Final = 200
# A writer that is always there lets none but a patient one truncate the log of SQLite.
_CHECKPOINT_SECONDS: Final = 120.0
_CHECKPOINT_PAUSE_SECONDS: Final = 0.1
_PSEUDONYM_BYTES: Final = 8
# What says who somebody is, or what they wrote. A row keeps its message's id, times, status and error code.
_NUMBERS: Final = frozenset(("recipient", "recipient_key", "sender", "sender_key", "number", "number_key"))
_OF_AN_OPT_OUT: Final = ("source", "channel", "recipient", "keyword", "event_id")
_EMPTIED: Final[dict[str, Any]] = {"text": None, "raw": "{}"}


class SqlTables:
    """The tables in one database. `secret` is the key of pseudonyms, needed to `pseudonymise`.

    `resumes`: an earlier run was interrupted, perhaps between erasing rows and overwriting their pages.
    """

    name = "sql"

    def __init__(
        self,
        address: DatabaseUrl,
        search: NumberSearch,
        *,
        how: SqlErasure = "erase",
        secret: str = "",
        resumes: bool = False,
    ) -> None:
        self._address = address
        self._search = search
        self._how = how
        self._secret = secret
        self._resumes = resumes

    def erase(self, *, dry_run: bool) -> StoreResult:
        """Delete or change the rows that mention a number."""
        found = erased = kept_opt_outs = 0
        why = ""
        try:
            with opened_engine(self._address, read_only=True) as reading, contextlib.ExitStack() as stack:
                writing: Engine | None = None
                for connection, table, row_keys in self._iterate(reading):
                    found += len(row_keys)
                    if table is opt_outs:
                        kept_opt_outs += sum(row["opted_out"] for row in _read_rows(connection, table, row_keys))
                    if not dry_run:
                        writing = writing or stack.enter_context(opened_engine(self._address))
                        self._write(writing, table, row_keys)
                        erased += len(row_keys)
            if erased or (self._resumes and not dry_run):
                self._overwrite_free_pages()
        except DatabaseUnavailable as exc:
            why = str(exc)
        except OSError as exc:
            why = f"{self._address.redacted_url}: {exc}"
        failed = bool(why)
        if kept_opt_outs and not failed:
            why = f"{counted(kept_opt_outs, 'opt-out')} among them: kept under a keyed digest, without the number"
        left = 0 if dry_run else found - erased
        return StoreResult(store=self.name, found=found, erased=erased, left=left, why=why, failed=failed)

    def export(self) -> Iterator[FoundItem]:
        """Yield each row that mentions a number, and what stays of opt-outs that were forgotten."""
        try:
            with opened_engine(self._address, read_only=True) as engine:
                for connection, table, row_keys in self._iterate(engine):
                    for row in _read_rows(connection, table, row_keys):
                        yield _found_item(table, row)
                yield from self._export_kept(engine)
        except (DatabaseUnavailable, OSError) as exc:
            raise StoreUnreadable(str(exc)) from exc

    def _export_kept(self, engine: Engine) -> Iterator[FoundItem]:
        if self._is_absent:
            return
        with engine.connect() as connection:
            if schema.read_state(connection) == "absent":
                return
            keys = forgotten.read_keys(connection, self._secret)
            row_keys = [forgotten.digest(number, key) for number in self._search.numbers for key in keys]
            for row in _read_rows(connection, opt_outs, row_keys):
                yield _found_item(opt_outs, row)

    def _iterate(self, engine: Engine) -> Iterator[tuple[Connection, Table, Sequence[str]]]:
        """Yield the keys of the rows that mention a number, some of a table at a time."""
        if self._is_absent:
            return
        with engine.connect() as connection:
            if schema.read_state(connection) == "absent":
                return
            for table in _TABLES:
                for row_keys in self._find(connection, table):
                    yield connection, table, row_keys

    @property
    def _is_absent(self) -> bool:
        return self._address.file is not None and not self._address.file.exists()

    def _find(self, connection: Connection, table: Table) -> Iterator[Sequence[str]]:
        key = _key_column(table)
        texts = [column for column in table.columns if isinstance(column.type, Text) and column is not key]
        statement = select(key, *texts).execution_options(stream_results=True, yield_per=_ROWS_PER_READ)
        found: list[str] = []
        with connection.execute(statement) as rows:
            for row in rows:
                # Between two values a character that separates no digits.
                if self._search.find_in("|".join(filter(None, row))):
                    found.append(row[0])
                    if len(found) == _ROWS_PER_STEP:
                        yield found
                        found = []
        if found:
            yield found

    def _write(self, engine: Engine, table: Table, row_keys: Sequence[str]) -> None:
        """Delete or change these rows, as they are by now, in one transaction."""
        with engine.begin() as connection:
            if table is opt_outs:
                self._forget_opt_outs(connection, _read_rows(connection, table, row_keys, locks=True))
            elif self._how == "erase":
                connection.execute(table.delete().where(_key_column(table).in_(row_keys)))
            else:
                for row in _read_rows(connection, table, row_keys, locks=True):
                    self._pseudonymise(connection, table, row)

    def _forget_opt_outs(self, connection: Connection, rows: Sequence[dict[str, Any]]) -> None:
        """Replace numbers of opt-outs by digests. Somebody else's row stays, without what it mentions."""
        numbers = {row["number_key"]: self._find_number(row["number_key"]) for row in rows}
        own = {key: number for key, number in numbers.items() if number}
        for row in rows:
            if row["number_key"] not in own:
                changed = self._emptied(row)
                query = opt_outs.update().where(opt_outs.c.number_key == row["number_key"])
                connection.execute(query.values({**changed, "number": row["number_key"]}))
        theirs = [self._emptied(row) for row in rows if row["number_key"] in own]
        forgotten.forget(connection, theirs, own, self._secret)

    def _find_number(self, text: str) -> str:
        return next((found for found in candidates(text) if found in self._search.numbers), "")

    def _emptied(self, row: dict[str, Any]) -> dict[str, Any]:
        """Return an opt-out without other columns that mention a number."""
        mentions = [name for name in _OF_AN_OPT_OUT if self._search.find_in(row[name] or "")]
        return {**row, **{name: "" if name == "source" else None for name in mentions}}

    def _pseudonymise(self, connection: Connection, table: Table, row: dict[str, Any]) -> None:
        """Replace what names a person by pseudonyms, the same for the same number; a repeat is deleted instead."""
        column = _key_column(table)
        changed = {name: self._without_numbers(name, value) for name, value in row.items()}
        if row.get("event_id"):
            # An event's id is a digest of the number and of what else is in the row, from which it could be guessed.
            changed["event_id"] = self._digest(row["event_id"])
        if row.get("status_rank"):
            # It ends with the id of the event that gave the status.
            rest, _, event_id = row["status_rank"].rpartition(":")
            changed["status_rank"] = f"{rest}:{self._digest(event_id)}"
        if changed[column.name] != row[column.name]:
            connection.execute(table.delete().where(column == changed[column.name]))
        connection.execute(table.update().where(column == row[column.name]).values(changed))

    def _without_numbers(self, name: str, value: Any) -> Any:
        if name in _EMPTIED:
            return _EMPTIED[name]
        if not isinstance(value, str) or not self._search.find_in(value):
            return value
        if name in _NUMBERS:
            return f"person-{self._digest(self._find_number(value))}"
        return self._digest(value)

    def _digest(self, text: str) -> str:
        return forgotten.keyed_digest(text, self._secret, size_bytes=_PSEUDONYM_BYTES)

    def _overwrite_free_pages(self) -> None:
        if self._is_absent:
            return
        with opened_engine(self._address) as engine:
            if self._address.file is not None:
                with contextlib.closing(engine.raw_connection()) as raw:
                    is_written = _rewrite_file(raw.cursor())
                if not is_written:
                    why = "another process reads the file, whose log may hold erased rows"
                    raise DatabaseUnavailable(f"{self._address.redacted_url}: {why}")
                return
            with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
                for table in _TABLES:
                    connection.exec_driver_sql(f"VACUUM {table.name}")


def _rewrite_file(cursor: Any) -> bool:
    """Write SQLite's file without free pages, and empty its log; return whether nobody read that for two minutes."""
    cursor.execute("VACUUM")
    deadline = time.monotonic() + _CHECKPOINT_SECONDS
    while True:
        cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        (is_busy, *_) = cursor.fetchone() or (0,)
        if not is_busy or time.monotonic() >= deadline:
            return not is_busy
        time.sleep(_CHECKPOINT_PAUSE_SECONDS)


def _found_item(table: Table, row: dict[str, Any]) -> FoundItem:
    content = {name: rfc3339(value) if hasattr(value, "tzinfo") else value for name, value in row.items()}
    return FoundItem(where=f"table {table.name}", until=_UNTIL, content=content)


def _key_column(table: Table) -> Column[str]:
    (column,) = table.primary_key.columns
    return column


def _read_rows(
    connection: Connection, table: Table, row_keys: Sequence[str], *, locks: bool = False
) -> list[dict[str, Any]]:
    """Return these rows, in the order in which workers lock them."""
    key = _key_column(table)
    query = select(table).where(key.in_(row_keys)).order_by(key)
    return [dict(row) for row in connection.execute(query.with_for_update() if locks else query).mappings()]
