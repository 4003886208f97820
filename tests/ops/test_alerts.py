"""What of a service's state is said to deserve a look, and how badly."""

import math
from datetime import UTC, datetime
from typing import Any

import pytest
from msgspec.structs import replace

from callbacks.ops.status.alerts import find_alerts
from callbacks.ops.status.audit_cache import Balance
from callbacks.ops.status.overdue import OverdueStatus
from callbacks.ops.status.service_status import HandlerPause, HandlerStatus, RefusalStatus, ServiceStatus
from callbacks.ops.status.snapshot import QueueStatus, SpoolStatus
from shared import refusals
from shared.durability_findings import Finding
from shared.recent_rate import AcknowledgeTimes, Bucket
from shared.refusals import Sender
from workers.runtime.pause import PauseState

QUEUE = QueueStatus(name="expand", waiting=0, running=0, scheduled=0, oldest_seconds=0.0, workers=1)
HANDLER = HandlerStatus(handler="crm", delivered=9, waiting=3, retrying=0, dead=0, workers=1)
BALANCE = Balance(balances=True, moving=False, difference=0, age_seconds=1.0)
BY_OPERATOR = PauseState(
    by="operator",
    since=datetime(2026, 1, 1, tzinfo=UTC),
    until=None,
    seconds_left=math.inf,
    reason="",
    times=1,
    is_probing=False,
)
MEMORY_FULL = Finding("memory", ok=False, detail="95 of 100 bytes used", remedy="raise maxmemory")
OVERDUE = OverdueStatus(after_seconds=7200, messages=0)
STOPPED = HandlerPause(by="handler", seconds=60.0, reason="crm.example answered 503", probe_in_seconds=40.0)
WELL = ServiceStatus(
    at=datetime(2026, 1, 1, tzinfo=UTC),
    callbacks_per_second=0.0,
    recent_rate=(Bucket(0, 0),),
    acknowledged=AcknowledgeTimes(window_seconds=300, answers=0, p50_seconds=None, p99_seconds=None),
    queues=(QUEUE, replace(QUEUE, name="deliver-crm")),
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
    return [(matter.level, matter.text) for matter in find_alerts(replace(WELL, **changes))]


def test_where_all_is_well_nothing_is_said() -> None:
    assert alerts_of() == []


@pytest.mark.parametrize("balance", [None, replace(BALANCE, balances=False, moving=True, difference=9)])
def test_an_audit_that_tells_nothing_yet_is_no_trouble(balance: Balance | None) -> None:
    assert alerts_of(balance=balance) == []


@pytest.mark.parametrize(
    ("changes", "level", "words"),
    [
        ({"balance": replace(BALANCE, balances=False, difference=2)}, "bad", "2 records or events are"),
        ({"findings": (Finding("appendonly", ok=False, detail="no"),)}, "bad", "appendonly: no"),
        ({"used_bytes": 80}, "warn", "Redis uses 80%"),
        ({"used_bytes": 95, "findings": (MEMORY_FULL,)}, "bad", "Redis uses 95%"),
        ({"web_processes": 0}, "bad", "No web process"),
        (
            {"queues": (replace(QUEUE, workers=0),)},
            "bad",
            "No worker serves the queue expand. Start one.",
        ),
        (
            {"queues": (replace(QUEUE, name="deliver-crm", workers=0, waiting=1),)},
            "bad",
            "queue deliver-crm, and 1 job waits",
        ),
        (
            {"queues": (replace(QUEUE, name="deliver-crm", workers=0),)},
            "bad",
            "deliver-crm. Start one.",
        ),
        ({"queues": (replace(QUEUE, waiting=1, oldest_seconds=90.0),)}, "warn", "has waited for 1 min"),
        ({"spools": (SpoolStatus("failing", 0, 0, 9),)}, "bad", "1 spool cannot be written"),
        ({"spools": (SpoolStatus("full", 0, 0, 9),) * 2}, "bad", "2 spools full"),
        ({"spools": (SpoolStatus("filling", 0, 0, 9),)}, "warn", "1 spool holding callbacks"),
        (
            {"handlers": (replace(HANDLER, pause=replace(STOPPED, by="operator", seconds=90_000.0)),)},
            "warn",
            "crm was paused by an operator 1 d 1 h ago; 3 events waiting.",
        ),
        (
            {"handlers": (replace(HANDLER, pause=STOPPED),)},
            "warn",
            "crm paused itself 1 min ago (crm.example answered 503); 3 events waiting. It tries one event in 40 s.",
        ),
        (
            {"handlers": (replace(HANDLER, pause=replace(STOPPED, seconds=901.0, reason="")),)},
            "bad",
            "(its target is unavailable)",
        ),
        (
            {"handlers": (replace(HANDLER, pause=replace(STOPPED, by="memory")),)},
            "warn",
            "(it fails, and Redis is nearly full)",
        ),
        (
            {"handlers": (replace(HANDLER, tried=5_720, failed=5_720),)},
            "bad",
            "crm fails: 5,720 of 5,720 attempts in the last 10 minutes.",
        ),
        (
            {"handlers": (replace(HANDLER, tried=100, failed=11),)},
            "warn",
            "crm failed at 11 of 100 attempts in the last 10 minutes.",
        ),
        ({"handlers": (replace(HANDLER, dead=9, recent_dead=1),)}, "warn", "1 dead letter of the handler crm in the"),
        (
            {"silent_seconds": 7300.0, "max_silence_seconds": 7200},
            "warn",
            "No callback was received for 2 h 1 min. Is anything sent,",
        ),
        ({"quarantined": 9, "recent_quarantined": 7}, "warn", "7 quarantined in the last hour"),
        (
            {"overdue": replace(OVERDUE, recent_messages=1_000, recent_overdue=10)},
            "warn",
            "10 of 1,000 messages of the last week (1.0%) have no final status 2 h 0 min after their first report.",
        ),
        ({"overdue": replace(OVERDUE, recent_messages=1, recent_overdue=1)}, "warn", "1 of 1 message of the last week"),
    ],
)
def test_each_trouble_is_said_in_words(changes: dict[str, Any], level: str, words: str) -> None:
    ((found, text),) = alerts_of(**changes)
    assert found == level
    assert words in text


@pytest.mark.parametrize(
    "overdue",
    [
        OVERDUE,
        replace(OVERDUE, messages=None, problem="the database is locked"),
        replace(OVERDUE, recent_messages=1_000, recent_overdue=9),
        # Those of long ago are a number: nobody can do anything about them now.
        replace(OVERDUE, messages=500, recent_messages=1_000),
    ],
)
def test_a_few_overdue_messages_are_no_warning(overdue: OverdueStatus) -> None:
    assert alerts_of(overdue=overdue) == []


@pytest.mark.parametrize(
    "changes",
    [
        {"dead": 5_720},
        {"tried": 100, "failed": 10},
        {"workers": 0, "is_subscribed": False, "waiting": 0, "tried": 9, "failed": 9},
    ],
    ids=["old dead letters", "few failures", "removed"],
)
def test_what_nobody_has_to_act_on_is_no_alert(changes: dict[str, Any]) -> None:
    queue = () if "workers" in changes else (replace(QUEUE, name="deliver-crm"),)
    assert alerts_of(handlers=(replace(HANDLER, **changes),), queues=(QUEUE, *queue)) == []
    assert alerts_of(quarantined=7) == []


def test_a_removed_handler_of_which_nothing_waits_needs_no_worker() -> None:
    gone = replace(HANDLER, is_subscribed=False, workers=0, waiting=0)
    empty = replace(QUEUE, name="deliver-crm", workers=0)
    assert alerts_of(handlers=(gone,), queues=(QUEUE, empty)) == []
    assert [level for level, _ in alerts_of(handlers=(gone,), queues=(QUEUE, replace(empty, waiting=1)))] == ["bad"]


@pytest.mark.parametrize(
    ("changes", "state"),
    [
        ({}, "active"),
        ({"tried": 3, "failed": 2}, "active"),
        ({"tried": 4, "failed": 3}, "failing"),
        ({"tried": 6, "failed": 3}, "active"),
        ({"workers": 0}, "no worker"),
        ({"workers": 0, "is_subscribed": False, "waiting": 0}, "removed"),
        ({"workers": 0, "is_subscribed": False, "waiting": 1}, "no worker"),
        ({"workers": 0, "pause": STOPPED, "failed": 9}, "paused"),
    ],
)
def test_a_handler_has_one_state_the_worst_that_applies(changes: dict[str, Any], state: str) -> None:
    assert replace(HANDLER, **changes).state == state


def refused(number: int, reason: str = "address-not-allowed", *, sender: Sender = "known") -> RefusalStatus:
    status = refusals.REASONS[reason].status
    counts = {"ten_minutes": number, "hour": number}
    return RefusalStatus(reason=reason, sender=sender, **counts, status=status, address="192.0.2.7")


def test_callbacks_that_are_refused_are_a_problem_with_their_reason_and_what_to_do() -> None:
    assert alerts_of(refused=(refused(300),)) == [
        (
            "bad",
            "300 callbacks were refused with 403 in the last 10 minutes, the last from 192.0.2.7: Address not allowed. "
            "If the address is the gateway's or your proxy's, add it to CALLBACKS_ALLOWED_IPS.",
        )
    ]


@pytest.mark.parametrize(("seconds_ago", "words"), [(59.0, ""), (240.0, " 4 min ago"), (None, "")])
def test_the_last_address_has_its_time_unless_it_was_just_now(seconds_ago: float | None, words: str) -> None:
    ((_, text),) = alerts_of(refused=(replace(refused(300), address_seconds_ago=seconds_ago),))
    assert f"the last from 192.0.2.7{words}: Address" in text


@pytest.mark.parametrize(
    ("reason", "level"),
    [
        ("too-large", "bad"),
        ("too-slow", "bad"),
        ("overload", "bad"),
        ("unsupported-media", "warn"),
        ("not-json", "warn"),
    ],
)
def test_a_refusal_of_which_a_copy_is_kept_is_a_warning(reason: str, level: str) -> None:
    ((found, _),) = alerts_of(refused=(refused(1, reason),))
    assert found == level


def test_a_field_that_many_records_write_unreadably_is_a_warning() -> None:
    assert alerts_of(unreadable=(("timestamp", 1203), ("to", 19))) == [
        (
            "warn",
            "1,203 reports or replies without a readable timestamp in the last hour. Their events are delivered "
            "without it; `raw` has it as received. Ask the gateway what it changed.",
        )
    ]


def test_what_was_refused_more_than_ten_minutes_ago_is_no_alert() -> None:
    assert alerts_of(refused=(replace(refused(300), ten_minutes=0),)) == []


@pytest.mark.parametrize(
    ("left_seconds", "words"),
    [
        (413.0, " The gateway sends the first of them for another 6 min."),
        (0.0, " The gateway has given up on the first of them."),
    ],
)
def test_it_says_for_how_long_the_gateway_still_sends_what_nothing_could_keep(left_seconds: float, words: str) -> None:
    spool = SpoolStatus("drained", 0, 0, 100, refused=646, refused_left_seconds=left_seconds)
    ((level, text),) = alerts_of(refused=(refused(646, "store-unavailable"),), spools=(spool,))
    assert level == "bad"
    assert text.endswith(words)


@pytest.mark.parametrize(("number", "accepted", "level"), [(19, 0, None), (300, 299, "bad"), (300, 300, "warn")])
def test_requests_without_a_valid_token_matter_if_there_are_many(number: int, accepted: int, level: str | None) -> None:
    found = alerts_of(refused=(refused(number, "not-found", sender="unknown"),), accepted_ten_minutes=accepted)
    assert [one for one, _ in found] == ([level] if level else [])
    assert all("Most: Not found (404), the last from 192.0.2.7" in text for _, text in found)
    assert all("add it to CALLBACKS_TOKENS" in text for _, text in found)


def test_what_strangers_send_that_is_not_http_is_no_alert() -> None:
    assert alerts_of(refused=(refused(500, "not-http", sender="unknown"),)) == []


@pytest.mark.parametrize(
    "changes",
    [
        {"silent_seconds": 7200.0, "max_silence_seconds": 7200},
        {"silent_seconds": 7300.0},
        {"silent_seconds": None, "max_silence_seconds": 7200},
    ],
    ids=["not yet", "off", "unknown"],
)
def test_silence_is_an_alert_only_beyond_what_is_set(changes: dict[str, Any]) -> None:
    assert alerts_of(**changes) == []


def test_each_alert_is_about_a_condition_and_a_handler_or_queue_if_it_is_of_one() -> None:
    found = find_alerts(
        replace(
            WELL,
            queues=(replace(QUEUE, workers=0),),
            handlers=(replace(HANDLER, pause=STOPPED), replace(HANDLER, handler="mail", tried=9, failed=9)),
            spools=(SpoolStatus("filling", 0, 0, 9),),
        )
    )

    assert {(alert.condition, alert.subject) for alert in found} == {
        ("no_worker", "expand"),
        ("handler_paused", "crm"),
        ("handler_failing", "mail"),
        ("spool_filling", ""),
    }


def test_the_worst_comes_first() -> None:
    assert [level for level, _ in alerts_of(recent_quarantined=1, web_processes=0)] == ["bad", "warn"]


def test_a_queue_that_an_operator_turned_off_needs_no_worker() -> None:
    off = replace(QUEUE, name="deliver-crm", workers=0, waiting=5, pause_state=BY_OPERATOR)
    assert alerts_of(queues=(off,)) == []


def test_in_a_list_handlers_in_trouble_are_first() -> None:
    failing = replace(HANDLER, handler="a-failing", tried=9, failed=9)
    idle, paused = replace(HANDLER, handler="b-idle", workers=0), replace(HANDLER, handler="c-paused", pause=STOPPED)

    found = sorted((paused, HANDLER, idle, failing), key=lambda one: one.urgency)

    assert [one.handler for one in found] == ["a-failing", "b-idle", "c-paused", "crm"]
