"""Answers the operations of `/api` that read the tables of the handler `sql`."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import msgspec
import redis
from msgspec import UNSET

from callbacks.ops.api import problems
from callbacks.ops.api.history_forms import EventsQuery, JobsList, JobsQuery, MessagesPage, MessagesQuery
from callbacks.ops.api.operations import Call
from callbacks.ops.api.parameters import parse_cursor, parse_since
from callbacks.ops.status.history_tables import TablesUnavailable, open_tables
from callbacks.ops.status.overdue import overdue_before
from callbacks.ops.status.table_cursor import make_cursor
from shared.events import known_status, to_unix_ms
from shared.settings import Settings
from workers.admin import event_status, message_forms
from workers.admin.event_status import EventDelivery
from workers.admin.message_forms import delivery_form, to_plain
from workers.admin.number_views import NumberViews
from workers.handlers.mask import mask_event
from workers.handlers.sql import stored_events
from workers.handlers.sql.history import History
from workers.handlers.sql.history_results import Reply, Stats, Status
from workers.handlers.sql.jobs import read_jobs

# Statuses of one message, or replies to it: far more than a message has.
_MAX_EVENTS: Final = 500
_MAX_NAMED: Final = 50


class HistoryReader:
    """Answers the operations. Each raises ApiProblem, TablesUnavailable and redis.RedisError."""

    def __init__(self, client: redis.Redis, settings: Settings, number_views: NumberViews) -> None:
        self._client = client
        self._settings = settings
        self._number_views = number_views

    def list_messages(self, call: Call) -> MessagesPage:
        """Return a page of messages."""
        query: MessagesQuery = call.query
        _check_numbers(call)
        with open_tables(self._settings) as connection:
            rows = list(
                History(connection).messages(
                    recipient=query.to,
                    statuses=list(map(known_status, query.status)),
                    since=None if query.since is None else parse_since(query.since),
                    job=query.job,
                    overdue_before=overdue_before(self._settings) if query.overdue else None,
                    after=parse_cursor(query.cursor),
                    limit=query.limit + 1,
                )
            )
        cursor = None
        if len(rows) > query.limit:
            last = rows[query.limit - 1]
            cursor = make_cursor(last.first_received_at if query.overdue else last.last_received_at, last.message_id)
        shown = [message_forms.mask_message(row, query.numbers) for row in rows[: query.limit]]
        self._record_view(call, "messages", len(shown))
        return MessagesPage(messages=shown, next_cursor=cursor)

    def show_message(self, call: Call) -> dict[str, Any]:
        """Return a message, or where an event is."""
        identifier = call.path["id"]
        _check_numbers(call)
        try:
            with open_tables(self._settings) as connection:
                timelines, total = History(connection).find(identifier, limit=_MAX_NAMED, max_events=_MAX_EVENTS)
        except TablesUnavailable:
            found = _find_event(self._client, identifier)
            if found is None:
                raise
            return found
        named = [one for one in timelines if one.message.message_id == identifier] or timelines
        if not named:
            found = _find_event(self._client, identifier)
            if found is None:
                raise problems.not_found("No message, job or event has this id.")
            return found
        if len(named) > 1:
            raise problems.ambiguous_id(total)
        self._record_view(call, "messages", 1)
        timeline = named[0]
        plain: dict[str, Any] = to_plain(message_forms.mask_timeline(timeline, call.query.numbers))
        events: list[Status | Reply] = [*timeline.statuses, *timeline.replies]
        ids = {event.event_id: to_unix_ms(event.received_at) for event in events}
        try:
            found_at = event_status.find_statuses(self._client, ids)
            plain["deliveries"] = _deliveries(event_status.group_by_event(found_at, kept_by="sql"), ids)
        except redis.RedisError:
            return plain
        return plain

    def list_events(self, call: Call) -> dict[str, Any]:
        """Return a page of events."""
        query: EventsQuery = call.query
        _check_numbers(call)
        with open_tables(self._settings) as connection:
            rows = stored_events.read_newest(
                connection,
                kinds=("report", "reply") if query.kind is UNSET else (query.kind,),
                since=None if query.since is None else parse_since(query.since),
                message_id=query.message,
                after=parse_cursor(query.cursor),
                limit=query.limit + 1,
            )
        last = rows[query.limit - 1] if len(rows) > query.limit else None
        shown = rows[: query.limit] if query.numbers == "full" else map(mask_event, rows[: query.limit])
        self._record_view(call, "events", min(len(rows), query.limit))
        return {
            "events": [msgspec.Raw(event.to_json().encode()) for event in shown],
            "next_cursor": None if last is None else make_cursor(last.received_at, last.id),
        }

    def stats(self, call: Call) -> Stats:
        """Return the totals."""
        with open_tables(self._settings) as connection:
            return History(connection).stats(since=parse_since(call.query.since))

    def list_jobs(self, call: Call) -> JobsList:
        """Return jobs."""
        query: JobsQuery = call.query
        since = None if query.since is None else parse_since(query.since)
        if since is None and query.job is None:
            since = parse_since("7d")
        with open_tables(self._settings) as connection:
            found = read_jobs(
                connection, overdue_before=overdue_before(self._settings), since=since, job=query.job, limit=query.limit
            )
        return JobsList(jobs=found)

    def _record_view(self, call: Call, where: str, number: int) -> None:
        if call.query.numbers == "full":
            self._number_views.record(who=call.token.name, by="api", where=where, count=number)


def _check_numbers(call: Call) -> None:
    if call.query.numbers == "full" and call.token.role != "act":
        raise problems.role_missing("numbers=full")


def _find_event(client: redis.Redis, event_id: str) -> dict[str, Any] | None:
    found = event_status.group_by_event(event_status.find_event(client, event_id))
    return {"event_id": event_id, "deliveries": _deliveries(found, (event_id,))} if found else None


def _deliveries(found: Mapping[str, Sequence[EventDelivery]], event_ids: Iterable[str]) -> list[Any]:
    """Return the deliveries as `callbacks message --json` prints them: in the order of the events."""
    return [to_plain(delivery_form(one)) for event_id in event_ids for one in found.get(event_id, ())]
