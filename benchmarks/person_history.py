"""A history in which `benchmarks.forget` looks for people: rows of the tables of `sql`, dead letters, and a quarantine.

Everything is made in bulk, the rows inside the database: a message with its recipient's number, two reports of it, and
a reply to each eighth message. Three messages have the same number. The people to forget are spread evenly.
"""

import contextlib
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any, Final

import msgspec
from msgspec import Struct
from sqlalchemy import BigInteger, ColumnElement, Connection, Select, Table, Text, cast, insert, literal, select

from shared import batches, keys
from shared.batches import Quarantined
from shared.number_search import NumberSearch
from tests.unit.example_events import report
from workers.failures import dead_letters
from workers.handlers.sql import schema
from workers.handlers.sql.database_url import DatabaseUrl, opened_engine
from workers.handlers.sql.tables import messages, replies, statuses
from workers.runtime.outcome import Failed

HANDLER: Final = "sql"
# Numbers with eleven digits, as those of Malta.
_FIRST_NUMBER: Final = 35_670_000_000
_MESSAGES_PER_NUMBER: Final = 3
_REPORTS: Final = 2
_MESSAGES_PER_REPLY: Final = 8
_MESSAGES_PER_STEP: Final = 100_000
# 2 GB.
_CACHED_PAGES: Final = 500_000
_FAILURES_PER_STEP: Final = 1_000
# Of ten failures, one is a quarantined callback with a record of somebody else.
_DEAD_PER_QUARANTINED: Final = 9
_NEWEST: Final = datetime(2026, 11, 1, tzinfo=UTC)


class PersonHistory(Struct, frozen=True):
    """A history of about `rows` rows and `failures` failures; `people` of its people are to be forgotten."""

    rows: int
    failures: int
    people: int

    @property
    def messages(self) -> int:
        """How many messages there are."""
        return self.rows * _MESSAGES_PER_REPLY // ((1 + _REPORTS) * _MESSAGES_PER_REPLY + 1)

    @property
    def _numbers(self) -> int:
        return self.messages // _MESSAGES_PER_NUMBER

    @property
    def forgotten(self) -> list[str]:
        """The numbers of the people to forget."""
        apart = self._numbers // self.people
        return [str(_FIRST_NUMBER + apart * person) for person in range(self.people)]

    def fill_database(self, url: str) -> None:
        """Make the rows, with the product's schema."""
        with opened_engine(DatabaseUrl.parse(url)) as engine:
            schema.prepare(engine)
            if engine.dialect.name == "sqlite":
                # Without fsync, as this is not what is measured.
                with contextlib.closing(engine.raw_connection()) as raw:
                    for name, value in (("synchronous", "OFF"), ("cache_size", _CACHED_PAGES)):
                        raw.cursor().execute(f"PRAGMA {name}={value}")
            for first in range(0, self.messages, _MESSAGES_PER_STEP):
                end = min(first + _MESSAGES_PER_STEP, self.messages)
                with engine.begin() as connection:
                    if connection.dialect.name == "postgresql":
                        connection.exec_driver_sql("SET LOCAL statement_timeout = 0")
                    _insert_rows(connection, first, end, numbers=self._numbers)

    def fill_redis(self, redis: Any) -> None:
        """Make the failures, counted as such, with the product's fields; each hundredth has a forgotten number."""
        known = self.forgotten
        numbers = (
            known[index // 100 % len(known)] if index % 100 == 0 else str(_FIRST_NUMBER - 1 - index)
            for index in range(self.failures)
        )
        with redis.pipeline(transaction=False) as pipe:
            for index, number in enumerate(numbers, start=1):
                if index % (_DEAD_PER_QUARANTINED + 1):
                    _add_dead_letter(pipe, index, number)
                else:
                    _add_quarantined(pipe, index, number)
                if index % _FAILURES_PER_STEP == 0:
                    pipe.execute()
            pipe.execute()

    def count(self, url: str, redis: Any) -> dict[str, int]:
        """Return how many rows and failures there are, and how many of them mention one of the people."""
        search = NumberSearch(self.forgotten)
        found = dict.fromkeys(("rows", "rows of theirs", "failures", "failures of theirs", "dead letters of theirs"), 0)
        with opened_engine(DatabaseUrl.parse(url), read_only=True) as engine, engine.connect() as connection:
            for table, column in ((messages, "recipient"), (statuses, "recipient"), (replies, "sender")):
                statement = select(table.c[column], table.c.raw if "raw" in table.c else literal(""))
                with connection.execution_options(yield_per=10_000).execute(statement) as rows:
                    for number, raw in rows:
                        found["rows"] += 1
                        found["rows of theirs"] += number in search.numbers or search.find_in(raw)
        for index in (keys.QUARANTINE, keys.dead(HANDLER)):
            for fields in _iterate_failures(redis, index):
                is_theirs = any(map(search.find_in_bytes, fields.values()))
                found["failures"] += 1
                found["failures of theirs"] += is_theirs
                found["dead letters of theirs"] += is_theirs and index != keys.QUARANTINE
        return found


def _insert_rows(connection: Connection, first: int, end: int, *, numbers: int) -> None:
    """Insert the messages `first` to `end`, with their reports and replies."""
    counted = select(literal(first, BigInteger).label("i")).cte("counted", recursive=True)
    counted = counted.union_all(select(counted.c.i + 1).where(counted.c.i + 1 < end))
    i = counted.c.i
    number = cast(i % numbers + _FIRST_NUMBER, Text)
    # Ids are digests: they come in no order.
    digest = cast(i * 2_654_435_761 % 4_294_967_296, Text) + "-" + cast(i, Text)
    message_id = _text("14466445") + cast(i, Text)
    raw = (
        _text('{"type":"SMS","message_id":"')
        + message_id
        + '","status":"DELIVRD","timestamp":1443165174,"micro_timestamp":1443165174145,"to":"'
        + number
        + '","from":"Fortytwo","client_message_id":"c-1","error_code":0}'
    )
    time = literal(_NEWEST, messages.c.last_received_at.type)
    common = {"channel": "SMS", "api_job_id": "8de46f30-6b0f", "client_job_id": "autumn", "source": "main"}
    report = common | {"message_id": message_id, "status": "DELIVRD", "recipient": number, "sender": "Fortytwo"}
    report["is_final"] = literal(True)
    seen = {"first_received_at": time, "last_received_at": time}
    message = report | seen | {"recipient_key": number, "status_rank": _text("6:") + digest}
    _insert(connection, messages, message, select(counted))
    stored = {"received_at": time, "raw": raw}
    for part in range(_REPORTS):
        _insert(connection, statuses, report | stored | {"event_id": digest + f"-{part}"}, select(counted))
    reply = (
        common | stored | {"sender": number, "sender_key": number, "recipient": "Fortytwo", "text": "see you at eight"}
    )
    reply |= {"event_id": _text("r-") + digest, "reply_message_id": _text("r-") + cast(i, Text)}
    _insert(connection, replies, reply, select(counted).where(i % _MESSAGES_PER_REPLY == 0))


def _insert(connection: Connection, table: Table, values: dict[str, Any], rows: Select[Any]) -> None:
    """Insert a row for each of `rows`, with these values: texts, or what the database computes."""
    columns = [_text(value) if isinstance(value, str) else value for value in values.values()]
    connection.execute(insert(table).from_select(list(values), rows.with_only_columns(*columns)))


def _iterate_failures(redis: Any, index: str) -> Iterator[dict[bytes, bytes]]:
    ids = redis.zrange(index, 0, -1)
    for first in range(0, len(ids), _FAILURES_PER_STEP):
        with redis.pipeline(transaction=False) as pipe:
            for failure_id in ids[first : first + _FAILURES_PER_STEP]:
                pipe.hgetall(keys.failure(index, failure_id.decode()))
            yield from pipe.execute()


def _text(value: str) -> ColumnElement[str]:
    return literal(value, Text)


def _add_dead_letter(pipe: Any, index: int, number: str) -> None:
    event = report(message_id=f"dead-{index}", to=number)
    outcome = Failed("TimeoutError: the database is slow", "", "timeout", "TimeoutError")
    failure = dead_letters.from_event(HANDLER, event, 8, outcome, mask=lambda text, _: text)
    size_bytes = keys.FAILURE_OVERHEAD_BYTES + sum(len(str(part)) for field in failure.fields.items() for part in field)
    pipe.hset(failure.key, mapping={**failure.fields, "bytes": size_bytes})
    pipe.zadd(keys.dead(HANDLER), {failure.failure_id: failure.time_ms})
    pipe.incrby(keys.failures_bytes(keys.dead(HANDLER)), size_bytes)
    for counter in (keys.counter("report", "received"), keys.counter("report", "unique")):
        pipe.hincrby(keys.COUNTS, counter, 1)
    for outcome_name in ("queued", "dead"):
        pipe.hincrby(keys.COUNTS, keys.handler_counter(HANDLER, "report", outcome_name), 1)


def _add_quarantined(pipe: Any, index: int, number: str) -> None:
    records = [{"message_id": f"odd-{index}", "to": to} for to in (number, "35699000001")]
    body = msgspec.json.encode({"data": records})
    now_ms = batches.now_ms()
    entry = Quarantined(
        kind="status", source="main", received_ms=now_ms, error="no status", body=body, records=len(records)
    )
    for command in batches.commit_commands((), [entry]):
        pipe.execute_command(*command)
