"""The picture that `callbacks top` draws of a `Now`: whole at every width, with what is wrong said."""

import io
import re
from datetime import UTC, datetime
from typing import Any

import pytest
from msgspec.structs import replace
from rich.console import Console

from callbacks.cli.top_layout import render_status
from callbacks.ops.status.audit_cache import Balance
from callbacks.ops.status.service_status import (
    HandlerPause,
    HandlerStatus,
    Percentiles,
    RefusalStatus,
    ServiceStatus,
)
from callbacks.ops.status.snapshot import QueueStatus, SpoolStatus
from shared.durability_findings import Finding
from shared.recent_rate import AcknowledgeTimes, Bucket

QUIET = [Bucket(10 * number, 0) for number in range(360)]


def at_handler(name: str = "refund", **more: Any) -> HandlerStatus:
    fields: dict[str, Any] = {"delivered": 1_234_567, "waiting": 9, "retrying": 0, "dead": 0}
    return HandlerStatus(handler=name, **(fields | {"workers": 1} | more))


def queue(name: str = "expand", **more: Any) -> QueueStatus:
    fields: dict[str, Any] = {"waiting": 0, "running": 0, "scheduled": 0, "oldest_seconds": 0.0}
    return QueueStatus(name=name, **(fields | {"workers": 2} | more))


NOW = ServiceStatus(
    at=datetime(2026, 11, 23, 22, 1, 2, tzinfo=UTC),
    callbacks_per_second=1234.5,
    recent_rate=(*QUIET[:-3], Bucket(3570, 20_000), *QUIET[-2:]),
    acknowledged=AcknowledgeTimes(window_seconds=300, answers=70_000, p50_seconds=0.0021, p99_seconds=1.5),
    queues=(queue(), queue("deliver-refund", waiting=4321, oldest_seconds=7300.0)),
    handlers=(at_handler(),),
    workers=4,
    web_processes=2,
    findings=(Finding("redis", ok=True, detail="answers"),),
    used_bytes=300 << 20,
    max_bytes=2 << 30,
    spools=(SpoolStatus("drained", 0, 0, 1 << 30), SpoolStatus("none", 0, 0, 0)),
    quarantined=0,
    balance=Balance(balances=True, moving=False, difference=0, age_seconds=4.0),
)


PAUSED = HandlerPause(by="operator", seconds=9.0, reason="", probe_in_seconds=None)
TIMES = Percentiles(p50_seconds=0.04, p95_seconds=2.5, p99_seconds=300.0)
UNSTORED = SpoolStatus("drained", 0, 0, 100, refused=646, refused_left_seconds=413.0)
REFUSED = RefusalStatus(
    reason="address-not-allowed", sender="known", ten_minutes=300, hour=300, status=403, address="192.0.2.7"
)


def rendered(now: ServiceStatus, *, columns: int = 80) -> str:
    screen = Console(file=io.StringIO(), width=columns, color_system=None)
    screen.print(render_status(now, columns=columns))
    assert isinstance(screen.file, io.StringIO)
    return screen.file.getvalue()


@pytest.mark.parametrize("columns", [40, 80, 120, 400])
def test_no_line_is_wider_than_the_terminal_and_no_row_is_broken(columns: int) -> None:
    lines = rendered(NOW, columns=columns).splitlines()

    assert max(map(len, lines)) <= columns
    if columns >= 80:
        assert len(lines) == 18
        assert any(re.match(r"deliver-refund +4,321 +0 +0 +2 h \d+ min +2$", line.strip()) for line in lines)


def test_it_says_how_much_came_and_how_fast_it_was_acknowledged() -> None:
    output = rendered(NOW)

    assert "1,234.5 callbacks/s in the last minute, peak 2,000.0/s in the last hour" in output
    assert "p50 2.1 ms  p99 1.5 s  (70,000 in the last 5 minutes)" in output
    assert "refund            1,234,567        9         0     0  active" in output
    assert "redis         durable; 300 MiB of 2 GiB" in output
    assert "2 web, 4 workers; spools: drained, none, 0 callbacks" in output
    assert "audit         balances (4 s ago)" in output


def test_a_rush_of_ten_seconds_is_seen_at_every_width() -> None:
    for columns in (40, 80, 120, 400):
        assert "█" in rendered(NOW, columns=columns)


def test_little_beside_much_is_not_nothing() -> None:
    bars = rendered(replace(NOW, recent_rate=(Bucket(0, 1), *QUIET[1:-1], Bucket(3590, 1_000_000)))).splitlines()[2]

    assert (bars[0], bars[1], bars[-1]) == ("▁", " ", "█")


def test_an_hour_of_nothing_is_drawn_too() -> None:
    nothing = AcknowledgeTimes(window_seconds=300, answers=0, p50_seconds=None, p99_seconds=None)
    output = rendered(
        replace(NOW, recent_rate=tuple(QUIET), acknowledged=nothing, handlers=(), callbacks_per_second=0.0)
    )

    assert "0.0 callbacks/s in the last minute, peak 0.0/s" in output
    assert "nothing in the last 5 minutes" in output
    assert "█" not in output


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"balance": None}, "audit         not run while very many jobs wait"),
        (
            {"balance": Balance(balances=False, moving=False, difference=3, age_seconds=90.0)},
            "audit         does not balance: 3 lost or counted twice (1 min ago)",
        ),
        ({"balance": Balance(balances=False, moving=True, difference=3, age_seconds=0.0)}, "changes too fast"),
        (
            {"findings": (Finding("appendonly", ok=False, detail="no", remedy="correct it"),)},
            "appendonly: no (correct it)",
        ),
        ({"findings": (Finding("appendonly", ok=False, detail="no"),)}, "not durable"),
        ({"spools": (SpoolStatus("filling", 7, 9, 9),)}, "spools: filling, 7 callbacks"),
        ({"spools": ()}, "no web process reports its state"),
        ({"quarantined": 5}, "quarantine    5"),
        ({"unknown_statuses": (("PENDING", 1_200), ("other", 3))}, "not documented: PENDING 1,200, other 3"),
        ({"refused": (REFUSED,)}, "refused       300 in the last hour; 0 requests without a valid token"),
        ({"refused": (REFUSED,)}, "300 with 403: Address not allowed, the last from 192.0.2.7"),
        ({"refused": (replace(REFUSED, address_seconds_ago=240),)}, "the last from 192.0.2.7 4 min"),
        ({"refused": (REFUSED,), "spools": (UNSTORED,)}, "the gateway sends the first not stored for another 6 min"),
        (
            {"refused": (REFUSED,), "spools": (replace(UNSTORED, refused_left_seconds=0.0),)},
            "the gateway has given up on the first not stored",
        ),
        ({"refused": (replace(REFUSED, sender="unknown"),)}, "0 in the last hour; 300 requests without a valid token"),
        ({"handlers": (at_handler(delivery_times=TIMES),)}, "delivered in  p50 40.0 ms  p95 2.5 s  p99 300.0 s  ("),
        ({"handlers": (at_handler(pause=PAUSED),)}, "  paused"),
        ({"handlers": (at_handler(tried=4, failed=3),)}, "  failing: 3 of 4 in 10 min"),
        ({"handlers": (at_handler(workers=0, waiting=0, is_subscribed=False),)}, "  removed"),
        ({"handlers": (at_handler(workers=0),)}, "  no worker"),
        ({"handlers": tuple(at_handler(f"h{number}") for number in range(25))}, "5 more handlers"),
    ],
)
def test_what_is_not_as_it_should_be_is_said(more: dict[str, Any], said: str) -> None:
    assert said not in rendered(NOW)
    assert said in rendered(replace(NOW, **more))


def test_a_handlers_name_steers_no_terminal() -> None:
    output = rendered(replace(NOW, handlers=(at_handler("\x1b[2J[red]x\x9b"),)))

    assert all(one.isprintable() or one == "\n" for one in output)
    assert "[red]x" in output  # and is no markup
