"""The page *Now* says in its title, its icon and its heading how the service is, and what waits where."""

import re
from datetime import UTC, datetime
from typing import Any

import pytest
from markupsafe import Markup
from msgspec.structs import replace
from starlette.requests import Request

from callbacks.ops.access.sessions import RequestSession, SessionSigner
from callbacks.ops.html.renderer import render_fragment, render_page
from callbacks.ops.pages.now_feed import render_status
from callbacks.ops.status.alerts import Alert
from callbacks.ops.status.audit_cache import Balance
from callbacks.ops.status.cell_rows import CellRow
from callbacks.ops.status.overdue import OverdueStatus
from callbacks.ops.status.service_status import ServiceStatus
from callbacks.ops.status.snapshot import QueueStatus, SpoolStatus
from callbacks.ops.status.summary import REDIS_UNAVAILABLE, StatusSummary, summarize, summarize_cells
from shared.durability_findings import Finding
from shared.recent_rate import AcknowledgeTimes, Bucket

QUEUE = QueueStatus(name="expand", waiting=0, running=0, scheduled=0, oldest_seconds=0.0, workers=1)
WELL = ServiceStatus(
    at=datetime(2026, 1, 1, tzinfo=UTC),
    callbacks_per_second=0.0,
    recent_rate=(Bucket(0, 0),) * 360,
    acknowledged=AcknowledgeTimes(window_seconds=300, answers=0, p50_seconds=None, p99_seconds=None),
    queues=(QUEUE,),
    handlers=(),
    workers=1,
    web_processes=1,
    findings=(Finding("appendonly", ok=True, detail="yes"),),
    used_bytes=10,
    max_bytes=100,
    spools=(SpoolStatus("drained", 0, 0, 100),),
    quarantined=0,
    balance=Balance(balances=True, moving=False, difference=0, age_seconds=1.0),
)


def page(**changes: Any) -> str:
    """Return the page as its first request gets it."""
    heading, content, summary = render_status(replace(WELL, **changes))
    request = Request({"type": "http", "method": "GET", "path": "/", "query_string": b"", "headers": []})
    sessions = SessionSigner("")
    session = sessions.create()
    RequestSession(session, None, sessions.csrf_token(session), None).attach(request.scope)
    answer = render_page(request, "now.html", part=Markup(heading + content), summary=summary)
    return bytes(answer.body).decode()


@pytest.mark.parametrize(
    ("changes", "words", "icon"),
    [
        ({}, "Working", "icon.svg"),
        ({"balance": None}, "Working, but the audit has no result yet", "icon.svg"),
        ({"used_bytes": 80}, "Working, with 1 warning", "icon-warn.svg"),
        ({"web_processes": 0}, "1 problem needs action now", "icon-bad.svg"),
        ({"web_processes": 0, "used_bytes": 95}, "2 problems need action now", "icon-bad.svg"),
    ],
)
def test_title_icon_and_heading_say_how_the_service_is(changes: dict[str, Any], words: str, icon: str) -> None:
    html = page(**changes)

    assert f"<title>Now: {words} · Callbacks</title>" in html
    assert re.search(rf'<link rel="icon" type="image/svg\+xml" href="/static/{icon}\?v=', html)
    assert re.search(rf"<h1><span[^>]*>.</span> {words}</h1>", html)
    # What the script shows in the title and says in the live region when it changes.
    assert re.search(rf'id="summary" data-words="{words}" data-icon="/static/{icon}\?v=', html)
    assert f'<p class="unheard" role="status" id="announcement" data-words="{words}"></p>' in html


def test_while_redis_does_not_answer_the_part_has_the_title_and_icon_of_a_problem() -> None:
    html = render_fragment("redis_unavailable_content.html", error="ConnectionError")

    assert 'data-words="Redis does not answer" data-icon="/static/icon-bad.svg' in html


WORKING = CellRow(cell="north", redis_url="", balance=WELL.balance)
WARNED = replace(WORKING, alerts=(Alert("warn", "redis_memory", "Redis uses 80%."),))
IN_TROUBLE = replace(WORKING, alerts=(Alert("bad", "no_worker", "No worker."),))
UNAVAILABLE = replace(WORKING, problem="Redis cannot be reached")


@pytest.mark.parametrize(
    ("rows", "own", "words", "icon"),
    [
        ([WORKING, WORKING], None, "All of 2 cells working", "icon.svg"),
        ([WORKING, WARNED], None, "1 of 2 cells has warnings", "icon-warn.svg"),
        ([WARNED, IN_TROUBLE], None, "1 of 2 cells needs action now", "icon-bad.svg"),
        ([WARNED, IN_TROUBLE, UNAVAILABLE], None, "2 of 3 cells need action now", "icon-bad.svg"),
        # A Redis that is no cell.
        ([WORKING, WARNED], REDIS_UNAVAILABLE, "Redis does not answer", "icon-bad.svg"),
    ],
)
def test_with_cells_title_and_icon_are_those_of_the_worst_cell(
    rows: list[CellRow], own: StatusSummary | None, words: str, icon: str
) -> None:
    found = summarize_cells(rows, own or summarize((), WELL.balance))

    assert (found.words, found.icon) == (words, icon)


@pytest.mark.parametrize(
    ("overdue", "words"),
    [
        (OverdueStatus(after_seconds=7200), "○<small> not counted</small>"),
        (OverdueStatus(after_seconds=7200, messages=0), '<dd><a href="/messages?overdue=yes">0</a></dd>'),
        (OverdueStatus(after_seconds=7200, messages=1234), "no final status 2 h 0 min after their first report"),
        (OverdueStatus(after_seconds=7200, messages=1, problem="it is locked"), "it is locked"),
    ],
)
def test_overdue_messages_are_a_tile(overdue: OverdueStatus, words: str) -> None:
    assert "Messages overdue" in page(overdue=overdue)
    assert words in page(overdue=overdue)


def test_where_nothing_is_known_of_messages_there_is_no_tile_of_overdue_ones() -> None:
    assert "overdue" not in page()


@pytest.mark.parametrize(
    ("waiting", "words"),
    [(0, ""), (1, ", and 1 job of callbacks waits in expand"), (40, ", and 40 jobs of callbacks wait in expand")],
)
def test_the_tile_of_waiting_events_names_what_waits_before_it_is_events(waiting: int, words: str) -> None:
    html = page(queues=(replace(QUEUE, waiting=waiting),))

    assert f"at 0 handlers{words}</dd>" in html


def test_the_meter_of_memory_is_red_from_where_callbacks_go_to_the_spool() -> None:
    _, content, _ = render_status(replace(WELL, used_bytes=94, max_bytes=100))

    # A browser draws what is above `high` in red if the optimum is below `low`.
    assert '<meter min="0" max="100" optimum="0" low="75" high="90" value="94"' in content
