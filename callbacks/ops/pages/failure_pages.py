"""What the pages of the quarantine and of a handler's dead letters have in common: list, entry, confirmation, act.

A list shows a page's worth, newest first, and looks at a bounded number of entries for it, however many there are. An
act is confirmed on a page of its own, which says how many of what and what will happen, and is carried out beside the
requests (`callbacks.ops.pages.bulk_actions`). No GET changes anything.
"""

import re
from collections.abc import Mapping
from typing import Any, Final, get_args
from urllib.parse import quote, urlencode

import msgspec
import redis
from msgspec import Struct
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from callbacks.ops.access.sessions import operator
from callbacks.ops.html.forms import field, fields
from callbacks.ops.html.rendering import render_notice, render_page
from callbacks.ops.pages.bulk_actions import BulkActionRunner, TooManyActions
from workers.admin import action_log
from workers.admin.action_log import Action, AlreadyStarted
from workers.admin.bulk_action import RemainingWork, Task
from workers.failures.cursor import MAX_SCANNED, Cursor, FailureFilter, IndexReader
from workers.failures.failure import FailureNotFound
from workers.failures.failure_list import FailureList
from workers.failures.store import FailureStore

ROWS: Final = 50
KINDS: Final = ("", "status", "reply", "unknown")
# What a browser and a person can do with; the whole is there to be downloaded.
SHOWN_CHARACTERS: Final = 20_000
# Most acts have ended by then, and the answer tells how.
_WAIT_SECONDS: Final = 1.0
# A confirmation counts what matches among so many; an act itself goes through all.
_MAX_COUNTED: Final = 2 * MAX_SCANNED
# All ids of entries are hexadecimal; beside the entries, under the same prefix, stands what is none.
_ID: Final = re.compile(r"[0-9a-f]{1,64}")
# Milliseconds since 1970, or entries: Redis counts exactly as far as that.
_NUMBER: Final = re.compile(r"[0-9]{1,15}")
_FILTER_CHARACTERS: Final = 200


class ListLabels(Struct, frozen=True, kw_only=True):
    """How a shelf is called on its pages: its address, title, what one and several of its entries are."""

    path: str
    title: str
    singular: str
    plural: str

    def count(self, number: int) -> str:
        """Say how many entries."""
        return f"{number:,} {self.singular if number == 1 else self.plural}"


class FailurePages:
    """The pages of a shelf over one client; which shelf it is comes with each request."""

    def __init__(self, client: redis.Redis, bulk_actions: BulkActionRunner) -> None:
        self._client = client
        self._store = FailureStore(client)
        self._index_reader = IndexReader(client)
        self._bulk_actions = bulk_actions

    def list_page(self, request: Request, failure_list: FailureList, labels: ListLabels, **more: Any) -> Response:
        """Answer with a page of the list, from the place that the query names."""
        query = request.query_params
        failure_filter = _parse_filter(
            {name: query.get(name, "") for name in ("error", "source", "kind")}, failure_list
        )
        after = _parse_cursor(query.get("after", ""))
        part = self._index_reader.read_rows(failure_list, failure_filter, after=after, limit=ROWS)
        next_page = None if part.next_cursor is None else _url(labels, failure_filter, after=part.next_cursor.text)
        return render_page(
            request,
            "failure_list.html",
            labels=labels,
            failure_list=failure_list,
            rows=part.items,
            size=self._store.count(failure_list),
            failure_filter=failure_filter,
            kinds=KINDS,
            first_page=_url(labels, failure_filter) if after is not None else None,
            next_page=next_page,
            scanned=part.scanned,
            **more,
        )

    def confirm_page(self, request: Request, failure_list: FailureList, labels: ListLabels, **more: Any) -> Response:
        """Answer a form of the list with the question whether that is meant."""
        task, scope = _parse_button(request)
        failure_filter = _parse_filter(
            {name: field(request, name) for name in ("error", "source", "kind")}, failure_list
        )
        standing = self._store.snapshot(failure_list)
        ids = _parse_ids(request) if scope == "ticked" else ()
        rows = self._index_reader.read_named(failure_list, ids)
        number: int | None = len(rows)
        scanned = 0
        if scope == "all":
            number, scanned = self._count(failure_list, failure_filter, standing.size, int(standing.until_ms))
        if scope == "ticked" and not ids:
            return render_notice(request, 400, "Nothing is ticked", "Go back and tick what you mean, or choose all.")
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
            size=standing.size,
            scanned=scanned,
            failure_filter=failure_filter,
            until_ms=int(standing.until_ms),
            action_id=action_log.new_id(),
            **more,
        )

    def run_action(self, request: Request, failure_list: FailureList) -> Response:
        """Begin what was confirmed, and lead on to the page that shows how it goes."""
        task, scope = _parse_button(request)
        action_id = field(request, "action_id")
        if len(action_id) != len(action_log.new_id()) or not set(action_id) <= set("0123456789abcdef"):
            raise HTTPException(400)
        number = _parse_number(field(request, "number")) if field(request, "number") else None
        work = RemainingWork(task=task, handler=failure_list.handler)
        if scope == "ticked":
            work = msgspec.structs.replace(work, ids=_parse_ids(request))
            chosen, number = action_log.describe_ids(len(work.ids)), len(work.ids)
        else:
            failure_filter = _parse_filter(
                {name: field(request, name) for name in ("error", "source", "kind")}, failure_list
            )
            cursor = Cursor.before(_parse_number(field(request, "until_ms")))
            work = msgspec.structs.replace(work, failure_filter=failure_filter, cursor=cursor)
            chosen = action_log.describe_filter(failure_filter)
        action = Action(
            who=operator(request), by="page", what=task, where=failure_list.name, chosen=chosen, number=number
        )
        try:
            self._bulk_actions.start(action, work, action_id)
        except AlreadyStarted:
            pass  # a double click: it leads to the same page
        except TooManyActions as exc:
            return render_notice(request, 503, "Nothing was done", str(exc))
        self._bulk_actions.wait(action_id, seconds=_WAIT_SECONDS)
        return RedirectResponse(f"/actions/{action_id}", 303)

    def _count(
        self, failure_list: FailureList, failure_filter: FailureFilter, size: int, until_ms: int
    ) -> tuple[int | None, int]:
        """Count what matches, and how many were looked at for it; None if there are too many to be looked through."""
        if failure_filter.matches_all:
            return size, size
        part = self._index_reader.read_rows(
            failure_list, failure_filter, after=Cursor.before(until_ms), limit=_MAX_COUNTED, max_scanned=_MAX_COUNTED
        )
        return None if part.next_cursor is not None else len(part.items), part.scanned


def is_failure_id(text: str) -> bool:
    """Tell whether an address or a form names what may be an entry of a shelf."""
    return _ID.fullmatch(text) is not None


def download(name: str, content: bytes) -> Response:
    """Give content that strangers wrote as a file of plain text, which no browser shows, runs or takes for another."""
    plain = "".join(character if character.isalnum() or character in "-_" else "_" for character in name)
    headers = {
        "content-disposition": f'attachment; filename="{plain}.txt"',
        "content-security-policy": "default-src 'none'; sandbox",
    }
    return Response(content, media_type="text/plain; charset=utf-8", headers=headers)


def render_not_found(request: Request, exc: FailureNotFound, labels: ListLabels) -> Response:
    """Answer for an entry that is not there (any more)."""
    return render_notice(
        request, 404, f"This {labels.singular} is not there", f"{exc} It was replayed, dropped, or let go by its age."
    )


def _parse_filter(given: Mapping[str, str], failure_list: FailureList) -> FailureFilter:
    if given["kind"] not in KINDS or any(len(value) > _FILTER_CHARACTERS for value in given.values()):
        raise HTTPException(400)
    if failure_list.handler is not None:
        return FailureFilter(error=given["error"])
    return FailureFilter(**given)


def _parse_cursor(text: str) -> Cursor | None:
    try:
        return Cursor.parse(text) if text else None
    except ValueError:
        raise HTTPException(400) from None


def _url(labels: ListLabels, failure_filter: FailureFilter, **more: str) -> str:
    query = {name: value for name, value in msgspec.structs.asdict(failure_filter).items() if value} | more
    return f"{labels.path}?{urlencode(query, quote_via=quote)}" if query else labels.path


def _parse_button(request: Request) -> tuple[Task, str]:
    """Read a button, as in "replay-ticked" or "drop-all"."""
    name, _, scope = field(request, "do").partition("-")
    for task in get_args(Task):
        if name == task and scope in ("ticked", "all"):
            return task, scope
    raise HTTPException(400)


def _parse_ids(request: Request) -> tuple[str, ...]:
    ids = tuple(dict.fromkeys(fields(request).get("id", ())))
    if len(ids) > ROWS or not all(map(is_failure_id, ids)):
        raise HTTPException(400)
    return ids


def _parse_number(text: str) -> int:
    if not _NUMBER.fullmatch(text):
        raise HTTPException(400)
    return int(text)
