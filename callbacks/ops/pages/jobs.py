"""The page *Jobs*: what became of the messages of each send request of the last week, by the tables of `sql`.

Adding them up takes a second for a million messages, so one query at a time does it for everybody.
"""

import re
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from callbacks.ops.html.renderer import render_page
from callbacks.ops.status.history_tables import TablesUnavailable, open_tables
from callbacks.ops.status.overdue import overdue_before
from callbacks.ops.status.single_flight import SingleFlight
from shared.settings import Settings

if TYPE_CHECKING:
    from workers.handlers.sql.history_results import JobSummary

ROWS: Final = 50
# Older pages of a list that nobody reads to its end; `callbacks jobs` has no such limit.
MAX_JOBS: Final = 1000
SINCE: Final = timedelta(days=7)
_HOLD_SECONDS: Final = 5.0


def routes(settings: Settings) -> list[Route]:
    """Return the page's route."""
    jobs = SingleFlight(lambda: _read(settings), seconds=_HOLD_SECONDS)

    async def show(request: Request) -> Response:
        page = _parse_page(request.query_params.get("page", "1"))
        problem = ""
        found: list[JobSummary] = []
        try:
            found = await jobs.get()
        except TablesUnavailable as exc:
            problem = str(exc)
        return render_page(
            request,
            "jobs.html",
            rows=found[(page - 1) * ROWS : page * ROWS],
            page=page,
            has_more=len(found) > page * ROWS,
            total=len(found),
            is_cut=len(found) == MAX_JOBS,
            problem=problem,
            uses_sql="sql" in settings.handlers,
            after_seconds=settings.overdue_seconds,
        )

    return [Route("/jobs", show)]


def _read(settings: Settings) -> "list[JobSummary]":
    since = datetime.now(UTC) - SINCE
    with open_tables(settings) as connection:
        from workers.handlers.sql.jobs import read_jobs  # noqa: PLC0415 # an extra, which is there now

        return read_jobs(connection, overdue_before=overdue_before(settings), since=since, limit=MAX_JOBS)


def _parse_page(text: str) -> int:
    if not re.fullmatch(r"[1-9][0-9]{0,4}", text):
        raise HTTPException(400)
    return int(text)
