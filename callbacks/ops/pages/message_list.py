"""The list of messages that the page *Messages* begins with: by current status and by job, a page at a time.

It is read from the tables of the handler `sql`, and needs no Redis.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Final, Self
from urllib.parse import quote, urlencode

from msgspec import Struct
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from callbacks.ops.html.renderer import render_page
from callbacks.ops.status.history_tables import TablesUnavailable, open_tables
from callbacks.ops.status.overdue import overdue_before
from callbacks.ops.status.table_cursor import make_cursor, parse_cursor
from shared.events import known_status
from shared.schema import STATUSES
from shared.settings import Settings
from workers.admin.message_forms import mask_message

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from workers.handlers.sql.history_results import JobSummary, Message

ROWS: Final = 50
_MAX_CHARACTERS: Final = 300
# Of a job's id: both ids of a job may be in use for others too.
_MAX_JOBS: Final = 5


class ListFilter(Struct, frozen=True, kw_only=True):
    """Which messages are listed; what is empty matches all.

    `overdue`: only those that have had no final status for CALLBACKS_OVERDUE_SECONDS, the one that waits longest first.
    """

    status: str = ""
    job: str = ""
    overdue: str = ""

    @classmethod
    def parse(cls, query: Mapping[str, str]) -> Self:
        """Return the filter of a query. Raise 400 for what is too long."""
        values = {name: query.get(name, "").strip() for name in cls.__struct_fields__}
        if any(len(value) > _MAX_CHARACTERS for value in values.values()):
            raise HTTPException(400)
        return cls(**values | {"status": known_status(values["status"])})

    def url(self, **more: str) -> str:
        """Return the address of the list."""
        values = {name: getattr(self, name) for name in self.__struct_fields__} | more
        query = urlencode({name: value for name, value in values.items() if value}, quote_via=quote)
        return f"/messages?{query}" if query else "/messages"


def render_list(request: Request, settings: Settings) -> Response:
    """Return the page of the list, from the cursor in the query."""
    wanted, after = ListFilter.parse(request.query_params), _parse_cursor(request.query_params.get("after", ""))
    rows: list[Message] = []
    jobs: list[JobSummary] = []
    problem = ""
    try:
        with open_tables(settings) as connection:
            rows, jobs = _read(connection, settings, wanted, after)
    except TablesUnavailable as exc:
        problem = str(exc)
    next_page = wanted.url(after=_cursor(rows[ROWS - 1], wanted)) if len(rows) > ROWS else None
    return render_page(
        request,
        "message_list.html",
        wanted="",
        shown=wanted,
        rows=[mask_message(row, "masked") for row in rows[:ROWS]],
        jobs=jobs,
        problem=problem,
        uses_sql="sql" in settings.handlers,
        overdue_seconds=settings.overdue_seconds,
        statuses=sorted(STATUSES),
        first_page=wanted.url() if after is not None else None,
        next_page=next_page,
    )


def _read(
    connection: "Connection", settings: Settings, wanted: ListFilter, after: tuple[datetime, str] | None
) -> "tuple[list[Message], list[JobSummary]]":
    """Return one message more than fits on a page, and the job that is asked for."""
    from workers.handlers.sql.history import History  # noqa: PLC0415 # an extra
    from workers.handlers.sql.jobs import read_jobs  # noqa: PLC0415

    first_before = overdue_before(settings)
    rows = History(connection).messages(
        statuses=[wanted.status] if wanted.status else (),
        job=wanted.job or None,
        overdue_before=first_before if wanted.overdue else None,
        after=after,
        limit=ROWS + 1,
    )
    jobs = read_jobs(connection, overdue_before=first_before, job=wanted.job, limit=_MAX_JOBS) if wanted.job else []
    return list(rows), jobs


def _cursor(message: "Message", wanted: ListFilter) -> str:
    return make_cursor(message.first_received_at if wanted.overdue else message.last_received_at, message.message_id)


def _parse_cursor(text: str) -> tuple[datetime, str] | None:
    try:
        return parse_cursor(text) if text else None
    except ValueError:
        raise HTTPException(400) from None
