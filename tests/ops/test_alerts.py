"""What of a service's state is said to deserve a look, and how badly."""

from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from callbacks.ops.status.alerts import find_alerts
from callbacks.ops.status.audit_cache import Balance
from callbacks.ops.status.service_status import HandlerStatus, ServiceStatus
from callbacks.ops.status.snapshot import QueueStatus, SpoolStatus
from shared.durability import Finding
from shared.recent_rate import AcknowledgeTimes, Bucket

QUEUE = QueueStatus(name="expand", paused_by="", waiting=0, running=0, scheduled=0, oldest_seconds=0.0, workers=1)
HANDLER = HandlerStatus(handler="crm", delivered=9, waiting=3, retrying=0, dead=0, paused_by="", workers=1)
BALANCE = Balance(balances=True, moving=False, difference=0, age_seconds=1.0)
WELL = ServiceStatus(
    at=datetime(2026, 1, 1, tzinfo=UTC),
    callbacks_per_second=0.0,
    recent_rate=(Bucket(0, 0),),
    acknowledged=AcknowledgeTimes(window_seconds=300, answers=0, p50_seconds=None, p99_seconds=None),
    queues=(QUEUE, msgspec.structs.replace(QUEUE, name="deliver-crm")),
    handlers=(HANDLER,),
    workers=2,
    web_processes=1,
    findings=(Finding("appendonly", ok=True, detail="yes"),),
    used_bytes=10,
    max_bytes=100,
    spools=(SpoolStatus("drained", 0, 0, 100),),
    quarantined=0,
    balance=BALANCE,
)


def alerts_of(**changes: Any) -> list[tuple[str, str]]:
    return [(matter.level, matter.text) for matter in find_alerts(msgspec.structs.replace(WELL, **changes))]


def test_where_all_is_well_nothing_is_said() -> None:
    assert alerts_of() == []


@pytest.mark.parametrize("balance", [None, msgspec.structs.replace(BALANCE, balances=False, moving=True, difference=9)])
def test_an_audit_that_tells_nothing_yet_is_no_trouble(balance: Balance | None) -> None:
    assert alerts_of(balance=balance) == []


@pytest.mark.parametrize(
    ("changes", "level", "words"),
    [
        ({"balance": msgspec.structs.replace(BALANCE, balances=False, difference=2)}, "bad", "2 records or events are"),
        ({"findings": (Finding("appendonly", ok=False, detail="no"),)}, "bad", "appendonly: no"),
        ({"used_bytes": 80}, "warn", "Redis uses 80%"),
        ({"used_bytes": 95}, "bad", "Redis uses 95%"),
        ({"web_processes": 0}, "bad", "No web process"),
        (
            {"queues": (msgspec.structs.replace(QUEUE, workers=0),)},
            "bad",
            "No worker serves the queue expand. Start one.",
        ),
        (
            {"queues": (msgspec.structs.replace(QUEUE, name="deliver-crm", workers=0, waiting=1),)},
            "bad",
            "queue deliver-crm, and 1 job waits",
        ),
        (
            {"queues": (msgspec.structs.replace(QUEUE, name="deliver-crm", workers=0),)},
            "warn",
            "deliver-crm. Start one.",
        ),
        ({"queues": (msgspec.structs.replace(QUEUE, waiting=1, oldest_seconds=90.0),)}, "warn", "has waited for 1 min"),
        ({"spools": (SpoolStatus("failing", 0, 0, 9),)}, "bad", "1 spool cannot be written"),
        ({"spools": (SpoolStatus("full", 0, 0, 9),) * 2}, "bad", "2 spools full"),
        ({"spools": (SpoolStatus("filling", 0, 0, 9),)}, "warn", "1 spool holding callbacks"),
        (
            {"handlers": (msgspec.structs.replace(HANDLER, paused_by="operator"),)},
            "warn",
            "crm is paused by an operator",
        ),
        ({"handlers": (msgspec.structs.replace(HANDLER, paused_by="handler"),)}, "warn", "crm has paused itself"),
        ({"handlers": (msgspec.structs.replace(HANDLER, dead=1),)}, "warn", "1 dead letter."),
        ({"quarantined": 7}, "warn", "7 in quarantine"),
    ],
)
def test_each_trouble_is_said_in_words(changes: dict[str, Any], level: str, words: str) -> None:
    ((found, text),) = alerts_of(**changes)
    assert found == level
    assert words in text


def test_the_worst_comes_first() -> None:
    assert [level for level, _ in alerts_of(quarantined=1, web_processes=0)] == ["bad", "warn"]


def test_a_queue_that_an_operator_turned_off_needs_no_worker() -> None:
    off = msgspec.structs.replace(QUEUE, name="deliver-crm", workers=0, waiting=5, paused_by="operator")
    assert alerts_of(queues=(off,)) == []
