"""The tables of the handler `sql`: rows that mention a number are deleted, or stay for statistics under a pseudonym.

An opt-out stays in both cases, under a keyed digest of the number: erasing it would have its sender written to again.

Each table is read once, whatever the number of numbers; rows are changed some hundred at a time, so that workers wait
for no longer than a batch of theirs takes. At the end freed pages are overwritten (SQLite: VACUUM and a checkpoint).
"""

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any, Final

from sqlalchemy import Connection, Table, select

from shared.counted import counted
from shared.events import rfc3339
from shared.number_search import NumberSearch, candidates
from shared.setting_values import SqlErasure
from workers.handlers.optout import forgotten
from workers.handlers.sql import schema
from workers.handlers.sql.database_url import DatabaseUrl, opened_engine
from workers.handlers.sql.errors import DatabaseUnavailable
from workers.handlers.sql.tables import messages, opt_outs, replies, statuses
from workers.personal_data.report import FoundItem, StoreResult

_UNTIL: Final = "until it is erased"
_TABLES: Final = (messages, statuses, replies, opt_outs)
_ROWS_PER_READ: Final = 1000
_ROWS_PER_STEP: Final = 200
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
        try:
            for table in _TABLES:
                chosen = list(self._iterate(table))
                if table is opt_outs:
                    kept_opt_outs = sum(bool(row["opted_out"]) for row in chosen)
                found += len(chosen)
                if chosen and not dry_run:
                    for number in self._write(table, chosen):
                        erased += number
            if erased or (self._resumes and not dry_run):
                self._overwrite_free_pages()
        except (DatabaseUnavailable, OSError) as exc:
            left = 0 if dry_run else found - erased
            why = str(exc) if isinstance(exc, DatabaseUnavailable) else f"{self._address.redacted_url}: {exc}"
            return StoreResult(store=self.name, found=found, erased=erased, left=left, why=why, failed=True)
        left = 0 if dry_run else found - erased
        why = f"{counted(kept_opt_outs, 'opt-out')} among them: kept under a keyed digest, without the number"
        if left:
            why = "rows changed while they were erased: run this again"
        return StoreResult(
            store=self.name, found=found, erased=erased, left=left, why=why if left or kept_opt_outs else ""
        )

    def export(self) -> Iterator[FoundItem]:
        """Yield each row that mentions a number. Raise DatabaseUnavailable."""
        for table in _TABLES:
            for row in self._iterate(table):
                content = {name: rfc3339(value) if hasattr(value, "tzinfo") else value for name, value in row.items()}
                yield FoundItem(where=f"table {table.name}", until=_UNTIL, content=content)

    def _iterate(self, table: Table) -> Iterator[dict[str, Any]]:
        """Yield the rows of a table that mention a number."""
        if self._address.file is not None and not self._address.file.exists():
            return
        with opened_engine(self._address, read_only=True) as engine, engine.connect() as connection:
            if schema.read_state(connection) == "absent":
                return
            statement = select(table).execution_options(stream_results=True, yield_per=_ROWS_PER_READ)
            with connection.execute(statement) as rows:
                for row in rows.mappings():
                    # Between two values a character that separates no digits.
                    if self._search.find_in("|".join(value for value in row.values() if isinstance(value, str))):
                        yield dict(row)

    def _write(self, table: Table, rows: Sequence[dict[str, Any]]) -> Iterator[int]:
        """Delete or change rows, some in each transaction; yield how many these were, as a later one may fail."""
        with opened_engine(self._address) as engine:
            for first in range(0, len(rows), _ROWS_PER_STEP):
                with engine.begin() as connection:
                    number = self._write_step(connection, table, rows[first : first + _ROWS_PER_STEP])
                yield number

    def _write_step(self, connection: Connection, table: Table, rows: Sequence[dict[str, Any]]) -> int:
        if table is opt_outs:
            return self._forget_opt_outs(connection, rows)
        if self._how == "erase":
            self._delete(connection, table, [self._key_of(table, row) for row in rows])
        else:
            for row in rows:
                self._pseudonymise(connection, table, row)
        return len(rows)

    def _forget_opt_outs(self, connection: Connection, rows: Sequence[dict[str, Any]]) -> int:
        """Replace numbers of opt-outs by digests. Somebody else's row stays, without what it mentions."""
        numbers = {row["number_key"]: self._find_number(row["number_key"]) for row in rows}
        own = {key: number for key, number in numbers.items() if number}
        for row in rows:
            if row["number_key"] not in own:
                changed = self._emptied(row)
                query = opt_outs.update().where(opt_outs.c.number_key == row["number_key"])
                connection.execute(query.values({**changed, "number": row["number_key"]}))
        theirs = [self._emptied(row) for row in rows if row["number_key"] in own]
        return len(rows) - len(theirs) + forgotten.forget(connection, theirs, own, self._secret)

    def _find_number(self, text: str) -> str:
        return next((found for found in candidates(text) if found in self._search.numbers), "")

    def _emptied(self, row: dict[str, Any]) -> dict[str, Any]:
        """Return an opt-out without other columns that mention a number."""
        mentions = [name for name in _OF_AN_OPT_OUT if self._search.find_in(row[name] or "")]
        return {**row, **{name: "" if name == "source" else None for name in mentions}}

    @staticmethod
    def _key_of(table: Table, row: dict[str, Any]) -> str:
        (column,) = table.primary_key.columns
        return str(row[column.name])

    @staticmethod
    def _delete(connection: Connection, table: Table, names: Sequence[str]) -> None:
        (column,) = table.primary_key.columns
        connection.execute(table.delete().where(column.in_(names)))

    def _pseudonymise(self, connection: Connection, table: Table, row: dict[str, Any]) -> None:
        """Replace what names a person by pseudonyms, the same for the same number; a repeat is deleted instead."""
        (column,) = table.primary_key.columns
        key = str(row[column.name])
        changed = {name: self._without_numbers(name, value) for name, value in row.items()}
        if row.get("event_id"):
            # An event's id is a digest of the number and of what else is in the row, from which it could be guessed.
            changed["event_id"] = self._digest(row["event_id"])
        if row.get("status_rank"):
            # It ends with the id of the event that gave the status.
            rest, _, event_id = row["status_rank"].rpartition(":")
            changed["status_rank"] = f"{rest}:{self._digest(event_id)}"
        if changed[column.name] != key:
            connection.execute(table.delete().where(column == changed[column.name]))
        connection.execute(table.update().where(column == key).values(changed))

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
        if self._address.file is not None and not self._address.file.exists():
            return
        with opened_engine(self._address) as engine:
            if self._address.file is not None:
                with contextlib.closing(engine.raw_connection()) as raw:
                    cursor = raw.cursor()
                    cursor.execute("VACUUM")
                    cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)")
                    (is_busy, *_) = cursor.fetchone() or (0,)
                    cursor.close()
                if is_busy:
                    why = "another process reads the file, whose log may hold erased rows"
                    raise DatabaseUnavailable(f"{self._address.redacted_url}: {why}")
                return
            with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
                for table in _TABLES:
                    connection.exec_driver_sql(f"VACUUM {table.name}")
