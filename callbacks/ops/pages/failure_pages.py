"""The pages that the quarantine and the dead letters of a handler share: list, confirmation, action.

A list shows one page, newest first, and scans a bounded number of failures for it. An action is confirmed on a page of
its own, which says how many failures it changes and how. It then runs in the background
(`callbacks.ops.pages.bulk_actions`). No GET changes anything.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final, TypeVar, get_args
from urllib.parse import quote, urlencode

import msgspec
import redis
from msgspec import Struct
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from callbacks.ops.access.sessions import operator
from callbacks.ops.html.forms import field, fields
from callbacks.ops.html.renderer import render_notice, render_page
from callbacks.ops.pages.bulk_actions import BulkActionRunner, TooManyActions
from shared.ages import parse_moment
from shared.counted import counted
from shared.events import rfc3339
from shared.stored_times import stored_time
from workers.admin import action_log
from workers.admin.action_log import Action, AlreadyStarted
from workers.admin.bulk_action import RemainingWork, Task
from workers.admin.replay_rate import format_limit, parse_rate
from workers.failures.cursor import MAX_SCANNED, Cursor, FailureFilter, IndexReader, Row
from workers.failures.failure import FailureNotFound
from workers.failures.failure_list import FailureList
from workers.failures.store import FailureStore

ROWS: Final = 50
KINDS: Final = ("", "report", "reply", "unknown")
# A page shows this much; the whole text can be downloaded.
SHOWN_CHARACTERS: Final = 20_000
# Most actions end within this time, and the response then shows the result.
WAIT_SECONDS: Final = 1.0
# A confirmation scans at most this many failures to count matches; the action itself scans all.
_MAX_COUNTED: Final = 2 * MAX_SCANNED
# Ids of failures are hexadecimal. Keys with the same prefix that are not failures are not.
_ID: Final = re.compile(r"[0-9a-f]{1,64}")
# Milliseconds since 1970, or a number of failures. Redis represents integers of this length exactly.
_NUMBER: Final = re.compile(r"[0-9]{1,15}")
FILTER_CHARACTERS: Final = 200
FILTER_FIELDS: Final = FailureFilter.__struct_fields__


AllowedTask = TypeVar("AllowedTask", bound=str)


class ListLabels(Struct, frozen=True, kw_only=True):
    """The words for a failure list on its pages: path, title, and the singular and plural of its failures."""

    path: str
    title: str
    singular: str
    plural: str

    def count(self, number: int) -> str:
        """Return the number with its noun, as in "2 dead letters of crm"."""
        return counted(number, self.singular, self.plural)


class FailurePages:
    """Renders the pages of failure lists. Each call names the list."""

    def __init__(self, client: redis.Redis, bulk_actions: BulkActionRunner) -> None:
        self._client = client
        self._store = FailureStore(client)
        self._index_reader = IndexReader(client)
        self._bulk_actions = bulk_actions

    def list_page(self, request: Request, failure_list: FailureList, labels: ListLabels, **more: Any) -> Response:
        """Return a page of the list, from the cursor in the query."""
        query = request.query_params
        failure_filter = parse_filter(query, failure_list)
        after = _parse_cursor(query.get("after", ""))
        part = self._index_reader.read_rows(failure_list, failure_filter, after=after, limit=ROWS)
        next_page = None if part.next_cursor is None else _url(labels, failure_filter, after=part.next_cursor.text)
        return render_page(
            request,
            "failure_list.html",
            labels=labels,
            failure_list=failure_list,
            rows=self._summarize(failure_list, part.items),
            size=self._store.count(failure_list),
            failure_filter=failure_filter,
            kinds=KINDS,
            fields=filter_fields(failure_filter),
            first_page=_url(labels, failure_filter) if after is not None else None,
            next_page=next_page,
            scanned=part.scanned,
            **more,
        )

    def confirm_page(self, request: Request, failure_list: FailureList, labels: ListLabels, **more: Any) -> Response:
        """Return the page that asks to confirm the action chosen on the list."""
        task, scope = _parse_button(request, allowed=("replay", "drop", "export"))
        failure_filter = parse_form_filter(request, failure_list)
        snapshot = self._store.snapshot(failure_list)
        ids = parse_ids(request) if scope == "selected" else ()
        rows = self._index_reader.read_named(failure_list, ids)
        number: int | None = len(rows)
        scanned = 0
        if scope == "all":
            number, scanned = self._count(failure_list, failure_filter, snapshot.size, int(snapshot.until_ms))
        if scope == "selected" and not ids:
            back = _url(labels, failure_filter), "the list"
            return render_notice(
                request, 400, "Nothing is selected", "Go back and select failures, or choose all.", back=back
            )
        return render_page(
            request,
            "confirm.html",
            labels=labels,
            failure_list=failure_list,
            task=task,
            scope=scope,
            rows=rows,
            gone=len(ids) - len(rows),
            number=number,
            size=snapshot.size,
            scanned=scanned,
            failure_filter=failure_filter,
            fields=filter_fields(failure_filter),
            # What is exported is what is then dropped.
            exported=filter_fields(_without_newer(failure_filter, int(snapshot.until_ms))) if scope == "all" else {},
            until_ms=int(snapshot.until_ms),
            action_id=action_log.new_id(),
            **more,
        )

    def run_action(self, request: Request, failure_list: FailureList) -> Response:
        """Start the confirmed action and redirect to its page."""
        task, scope = _parse_button(request, allowed=get_args(Task))
        action_id = parse_action_id(request)
        number = _parse_number(field(request, "number")) if field(request, "number") else None
        work = RemainingWork(task=task, handler=failure_list.handler)
        if scope == "selected":
            work = msgspec.structs.replace(work, ids=parse_ids(request))
            chosen, number = action_log.describe_ids(len(work.ids)), len(work.ids)
        else:
            failure_filter = parse_form_filter(request, failure_list)
            cursor = Cursor.before(_parse_number(field(request, "until_ms")))
            work = msgspec.structs.replace(work, failure_filter=failure_filter, cursor=cursor)
            chosen = action_log.describe_filter(failure_filter)
        per_second = _parse_rate(request) if task == "replay" and failure_list.handler is not None else None
        if per_second is not None:
            work = msgspec.structs.replace(work, per_second=per_second)
            chosen = f"{chosen}, at most {format_limit(per_second)}"
        action = Action(
            who=operator(request), by="page", what=task, where=failure_list.name, chosen=chosen, number=number
        )
        try:
            self._bulk_actions.start(action, work, action_id)
        except AlreadyStarted:
            pass  # a double click: both lead to the same page
        except TooManyActions as exc:
            return render_notice(request, 503, "Nothing was changed", str(exc))
        self._bulk_actions.wait(action_id, seconds=WAIT_SECONDS)
        return RedirectResponse(f"/actions/{action_id}", 303)

    def _summarize(self, failure_list: FailureList, rows: Sequence[Row]) -> Sequence[Row]:
        """Return the rows of a page; those of dead letters with what says which event it is."""
        if failure_list.handler is None:
            return rows
        return list(self._store.read_summaries(failure_list.handler, [row.id for row in rows]))

    def _count(
        self, failure_list: FailureList, failure_filter: FailureFilter, size: int, until_ms: int
    ) -> tuple[int | None, int]:
        """Return how many failures match, None if there are too many to scan, and how many were scanned."""
        if failure_filter.matches_all:
            return size, size
        part = self._index_reader.read_rows(
            failure_list, failure_filter, after=Cursor.before(until_ms), limit=_MAX_COUNTED, max_scanned=_MAX_COUNTED
        )
        return None if part.next_cursor is not None else len(part.items), part.scanned


def parse_filter(given: Mapping[str, str], failure_list: FailureList) -> FailureFilter:
    """Return the filter of a query. Raise 400 for one that cannot be."""
    texts = {name: given.get(name, "").strip() for name in FILTER_FIELDS}
    if texts["kind"] not in KINDS or any(len(value) > FILTER_CHARACTERS for value in texts.values()):
        raise HTTPException(400)
    try:
        since, until = (parse_moment(texts[name]) if texts[name] else None for name in ("since", "until"))
    except ValueError as exc:
        raise HTTPException(400, str(exc)) from None
    found = FailureFilter(error=texts["error"], source=texts["source"], kind=texts["kind"], since=since, until=until)
    # Of dead letters the list has neither.
    return found if failure_list.handler is None else msgspec.structs.replace(found, source="", kind="")


def parse_form_filter(request: Request, failure_list: FailureList) -> FailureFilter:
    """Return the filter in a form's hidden fields. Raise 400 for one that cannot be."""
    return parse_filter({name: field(request, name) for name in FILTER_FIELDS}, failure_list)


def is_failure_id(text: str) -> bool:
    """Return whether `text` has the form of a failure's id."""
    return _ID.fullmatch(text) is not None


def parse_ids(request: Request) -> tuple[str, ...]:
    """Return the ids that were selected on a page, each once. Raise 400 if there are too many, or one is not an id."""
    ids = tuple(dict.fromkeys(fields(request).get("id", ())))
    if len(ids) > ROWS or not all(map(is_failure_id, ids)):
        raise HTTPException(400)
    return ids


def parse_action_id(request: Request) -> str:
    """Return the id that a confirmation gave to its action. Raise 400 if it is not one."""
    action_id = field(request, "action_id")
    if len(action_id) != len(action_log.new_id()) or not set(action_id) <= set("0123456789abcdef"):
        raise HTTPException(400)
    return action_id


def download(name: str, content: bytes) -> Response:
    """Return untrusted content as a plain text file that a browser downloads and never renders or runs."""
    headers = {
        "content-disposition": f'attachment; filename="{plain_name(name)}.txt"',
        "content-security-policy": "default-src 'none'; sandbox",
    }
    return Response(content, media_type="text/plain; charset=utf-8", headers=headers)


def plain_name(name: str) -> str:
    """Return a name for a file without its extension, of letters, digits, hyphens and underscores."""
    return "".join(character if character.isalnum() or character in "-_" else "_" for character in name)


def render_not_found(request: Request, exc: FailureNotFound, labels: ListLabels) -> Response:
    """Return the 404 page for a failure that does not exist."""
    return render_notice(
        request, 404, f"This {labels.singular} does not exist", f"{exc} It was replayed, dropped or has expired."
    )


def _parse_cursor(text: str) -> Cursor | None:
    try:
        return Cursor.parse(text) if text else None
    except ValueError:
        raise HTTPException(400) from None


def filter_fields(failure_filter: FailureFilter) -> dict[str, str]:
    """Return what a form or a query has of a filter, without what is empty."""
    values = msgspec.structs.asdict(failure_filter)
    return {name: value if isinstance(value, str) else rfc3339(value) for name, value in values.items() if value}


def _url(labels: ListLabels, failure_filter: FailureFilter, **more: str) -> str:
    query = filter_fields(failure_filter) | more
    return f"{labels.path}?{urlencode(query, quote_via=quote)}" if query else labels.path


def _without_newer(failure_filter: FailureFilter, until_ms: int) -> FailureFilter:
    """Return the filter without failures that are newer than this time."""
    until = stored_time(until_ms + 1)
    return msgspec.structs.replace(failure_filter, until=min(failure_filter.until or until, until))


def _parse_button(request: Request, *, allowed: Sequence[AllowedTask]) -> tuple[AllowedTask, str]:
    """Return task and scope of the button, as in "replay-selected" or "drop-all"."""
    name, _, scope = field(request, "do").partition("-")
    for task in allowed:
        if name == task and scope in ("selected", "all"):
            return task, scope
    raise HTTPException(400)


def _parse_rate(request: Request) -> float | None:
    try:
        return parse_rate(field(request, "rate")) if field(request, "rate") else None
    except ValueError as exc:
        raise HTTPException(400, str(exc)) from None


def _parse_number(text: str) -> int:
    if not _NUMBER.fullmatch(text):
        raise HTTPException(400)
    return int(text)
