"""Reads what the handler `sql` has stored: the timeline of a message, lists of messages, and totals.

Nothing is created or changed, not even SQLite's file. Errors of the database become DatabaseUnavailable.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any, Final

from msgspec import Raw, Struct
from sqlalchemy import ColumnElement, Connection, Row, and_, func, or_, select

from workers.handlers.number_mask import mask_number
from workers.handlers.sql import conditions, schema, texts
from workers.handlers.sql.current_status import DELIVERED
from workers.handlers.sql.database_url import DatabaseUrl, opened_engine
from workers.handlers.sql.errors import NoMessages, SchemaMismatch
from workers.handlers.sql.history_results import (
    DayTotals,
    DeliveryTimes,
    JobTotals,
    Message,
    Reply,
    Stats,
    Status,
    Timeline,
    Totals,
)
from workers.handlers.sql.tables import messages, replies, statuses

# How many messages one statement names, far below the limits of SQLite and PostgreSQL.
_CHUNK: Final = 500


class History:
    """Reads messages over an open connection; made by `open_history`."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def find(self, identifier: str, *, limit: int, max_events: int | None = None) -> tuple[list[Timeline], int]:
        """Return the timelines of at most `limit` messages that `identifier` names, and how many it names.

        Of a message at most `max_events` statuses are read, and as many replies: nobody bounds what a sender says of
        one. It may be a message's id, a client's id of a message, or a job's id, ours or the client's.
        """
        wanted = texts.storable_key(identifier)
        names = (messages.c.message_id, messages.c.client_message_id, messages.c.api_job_id, messages.c.client_job_id)
        named = or_(*(column == wanted for column in names))
        total = self._connection.scalar(select(func.count()).select_from(messages).where(named)) or 0
        query = (
            _columns(messages, Message)
            .where(named)
            .order_by(messages.c.first_received_at, messages.c.message_id)
            .limit(limit)
        )
        found = [_message(row) for row in self._connection.execute(query)]
        timelines: list[Timeline] = []
        for start in range(0, len(found), _CHUNK):
            timelines.extend(self._timelines(found[start : start + _CHUNK], max_events))
        return timelines, total

    def messages(
        self,
        *,
        recipient: str | None = None,
        statuses: Sequence[str] = (),
        since: datetime | None = None,
        job: str | None = None,
        overdue_before: datetime | None = None,
        after: tuple[datetime, str] | None = None,
        limit: int,
    ) -> Iterator[Message]:
        """Yield messages to `recipient`, of `job`, with one of `statuses`, that had a report since then.

        The latest report is first. With `overdue_before`, only messages first reported before it that have no final
        status, the one that waits longest first. `after` is the time by which the list is in order, and the id, of the
        message after which it goes on.
        """
        query = _columns(messages, Message)
        if after is not None:
            at, message_id = after
            time = messages.c.last_received_at if overdue_before is None else messages.c.first_received_at
            beyond = time < at if overdue_before is None else time > at
            query = query.where(or_(beyond, and_(time == at, messages.c.message_id > message_id)))
        if overdue_before is None:
            query = query.order_by(messages.c.last_received_at.desc(), messages.c.message_id)
        else:
            query = query.where(conditions.is_overdue(overdue_before))
            query = query.order_by(messages.c.first_received_at, messages.c.message_id)
        if job is not None:
            query = query.where(conditions.is_of_job(job))
        if recipient is not None:
            query = query.where(messages.c.recipient_key == texts.number_key(recipient))
        if statuses:
            query = query.where(messages.c.status.in_([texts.storable_key(status) for status in statuses]))
        if since is not None:
            query = query.where(messages.c.last_received_at >= since)
        rows = self._connection.execution_options(yield_per=1000).execute(query.limit(limit))
        return map(_message, rows)

    def stats(self, *, since: datetime) -> Stats:
        """Return the totals of the messages whose first report came since then."""
        recent = messages.c.first_received_at >= since
        return Stats(
            total=_totals(dict(self._counts(recent)[()])),
            seconds_to_deliver=self._delivery_times(recent),
            days=[
                DayTotals(day=day, totals=_totals(counts))
                for (day,), counts in sorted(self._counts(recent, self._day()).items())
            ],
            jobs=[
                JobTotals(api_job_id=api, client_job_id=client, totals=_totals(counts))
                for (api, client), counts in self._counts(
                    recent, messages.c.api_job_id, messages.c.client_job_id
                ).items()
            ],
        )

    def _timelines(self, found: Sequence[Message], max_events: int | None) -> Iterator[Timeline]:
        # One more than the limit, of all these messages together, to see whether there are more.
        max_rows = None if max_events is None else max_events + 1
        reached: defaultdict[str, list[Status]] = defaultdict(list)
        query = (
            _columns(statuses, Status)
            .where(statuses.c.message_id.in_([message.message_id for message in found]))
            .order_by(statuses.c.occurred_at.nulls_last(), statuses.c.received_at, statuses.c.event_id)
            .limit(max_rows)
        )
        for row in self._connection.execute(query):
            reached[row.message_id].append(Status(**_with_raw(row)))
        answers: defaultdict[tuple[str | None, ...], list[Reply]] = defaultdict(list)
        for row in self._connection.execute(_replies_to(found).limit(max_rows)):
            reply = Reply(**_with_raw(row))
            answers[_reply_key(reply)].append(reply)
        for message in found:
            # A reply without the message's id is matched by job and number.
            by_number = answers[message.api_job_id, texts.number_key(message.recipient)] if message.recipient else []
            own = sorted([*answers[message.message_id,], *by_number], key=lambda reply: reply.received_at)
            own_statuses = reached[message.message_id]
            is_cut = max_events is not None and max(len(own_statuses), len(own)) > max_events
            yield Timeline(message, own_statuses[:max_events], own[:max_events], is_cut)

    def _counts(self, recent: ColumnElement[bool], *groups: Any) -> dict[tuple[Any, ...], Counter[str]]:
        """Count current statuses in each group, the group with the newest message first."""
        query = (
            select(*groups, messages.c.status, func.count(), func.max(messages.c.first_received_at).label("newest"))
            .where(recent)
            .group_by(*groups, messages.c.status)
            .order_by(func.max(messages.c.first_received_at).desc())
        )
        counts: defaultdict[tuple[Any, ...], Counter[str]] = defaultdict(Counter)
        for *group, status, number, _ in self._connection.execute(query):
            counts[tuple(group)][status] += number
        if not groups:
            counts[()].update()
        return counts

    def _delivery_times(self, recent: ColumnElement[bool]) -> DeliveryTimes:
        timed = and_(recent, messages.c.delivered_at >= messages.c.accepted_at)
        number = self._connection.scalar(select(func.count()).select_from(messages).where(timed)) or 0
        seconds = self._seconds()
        query = select(seconds).where(timed).order_by(seconds)

        def percentile(percent: int) -> float | None:
            # The nearest rank: the shortest time within which this percentage arrived.
            rank = -(-number * percent // 100)
            found = self._connection.scalar(query.limit(1).offset(rank - 1)) if number else None
            return None if found is None else round(float(found), 3)

        return DeliveryTimes(messages=number, p50=percentile(50), p95=percentile(95))

    def _is_sqlite(self) -> bool:
        return self._connection.dialect.name == "sqlite"

    def _day(self) -> ColumnElement[str]:
        at = messages.c.first_received_at
        return func.date(at) if self._is_sqlite() else func.to_char(func.timezone("UTC", at), "YYYY-MM-DD")

    def _seconds(self) -> ColumnElement[float]:
        began, ended = messages.c.accepted_at, messages.c.delivered_at
        if self._is_sqlite():
            return (func.julianday(ended) - func.julianday(began)) * 86400
        seconds: ColumnElement[float] = func.date_part("epoch", ended - began)
        return seconds


@contextmanager
def open_history(address: DatabaseUrl) -> Iterator[History]:
    """Yield the history in the database at `address`, as of now. Raise DatabaseUnavailable."""
    with open_connection(address) as connection:
        yield History(connection)


@contextmanager
def open_connection(address: DatabaseUrl, *, handler: str = "sql") -> Iterator[Connection]:
    """Yield a connection that reads the tables of this release at `address`. Raise DatabaseUnavailable.

    `handler` is the one that fills the tables which are read.
    """
    if address.file is not None and not address.file.exists():
        raise NoMessages(_no_tables_text(address, handler))
    opened = opened_engine(address, read_only=True, says=" cannot be used")
    with opened as engine, engine.connect() as connection:
        state = schema.read_state(connection)
        if state == "newer":
            raise SchemaMismatch(f"{address.redacted_url}: {schema.newer_schema_text(connection)}")
        if state == "older":
            raise SchemaMismatch(
                f"{address.redacted_url}: its tables are older: a worker of the handler `{handler}` upgrades them"
            )
        if state == "absent":
            raise NoMessages(_no_tables_text(address, handler))
        yield connection


def _no_tables_text(address: DatabaseUrl, handler: str) -> str:
    what = "messages" if handler == "sql" else "opt-outs"
    return f"{address.redacted_url} has no {what} yet: add `{handler}` to CALLBACKS_HANDLERS and start its worker"


def _columns(table: Any, struct: type[Struct]) -> Any:
    return select(*(table.c[name] for name in struct.__struct_fields__))


def _message(row: Row[Any]) -> Message:
    return Message(**row._mapping)  # noqa: SLF001 # SQLAlchemy's public name for it


def _with_raw(row: Row[Any]) -> dict[str, Any]:
    fields = dict(row._mapping)  # noqa: SLF001 # as above
    return fields | {"raw": Raw(fields["raw"].encode())}


def _replies_to(found: Sequence[Message]) -> Any:
    jobs = {message.api_job_id for message in found} - {None}
    numbers = {texts.number_key(message.recipient) for message in found} - {None}
    return (
        _columns(replies, Reply)
        .where(
            or_(
                replies.c.orig_message_id.in_([message.message_id for message in found]),
                and_(
                    replies.c.orig_message_id.is_(None),
                    replies.c.api_job_id.in_(jobs),
                    replies.c.sender_key.in_(numbers),
                ),
            )
        )
        .order_by(replies.c.received_at, replies.c.event_id)
    )


def _reply_key(reply: Reply) -> tuple[str | None, ...]:
    if reply.orig_message_id is not None:
        return (reply.orig_message_id,)
    return (reply.api_job_id, texts.number_key(reply.sender))


def _totals(counts: dict[str, int]) -> Totals:
    total = sum(counts.values())
    delivered = sum(number for status, number in counts.items() if status in DELIVERED)
    return Totals(
        messages=total,
        # No status has a phone number by itself, and a count belongs to nobody who could ask for it whole.
        statuses=dict(sorted((mask_number(status), number) for status, number in counts.items())),
        delivered=delivered,
        delivery_rate=round(delivered / total, 4) if total else None,
    )
