"""For how long each store keeps what it holds, what is behind, and how many rows a transaction removes."""

from datetime import UTC, datetime

import msgspec
import pytest
from msgspec.structs import replace

from callbacks.cli.checks import retention as retention_check
from callbacks.ops.status.alerts import find_alerts
from shared import retention, settings
from shared.retention import DAY_SECONDS, RetentionState
from tests.ops.test_alerts import WELL
from workers.handlers.sql.retention import BatchSize

NOW = 1_795_000_000.0
STATE = RetentionState(store="sql", days=30, at_ms=int(NOW * 1000))


@pytest.mark.parametrize(
    ("given", "days"),
    [
        ({}, (None, None, None, 30, 366)),
        ({"": "7"}, (7, 7, 7, 7, 7)),
        # Failures and actions have limits of their own, which a longer time for everything does not change.
        ({"": "400"}, (400, 400, 400, 30, 366)),
        ({"": "7", "SQL": "400", "FAILURES": "90", "ACTIONS": "100"}, (400, 7, 7, 90, 100)),
        ({"JSONL": "1", "STREAM": "2"}, (None, 1, 2, 30, 366)),
    ],
)
def test_a_stores_own_setting_goes_before_that_for_all(given: dict[str, str], days: tuple[int | None, ...]) -> None:
    names = {f"CALLBACKS_{name}_RETENTION_DAYS".replace("__", "_"): value for name, value in given.items()}
    loaded = settings.load(names)

    assert tuple(retention.days_of(loaded).values()) == days


def test_the_settings_are_named_after_their_stores() -> None:
    rows = {row.variable for row in settings.table_rows()}

    assert {retention.SETTING} | {
        f"CALLBACKS_{store.upper()}_RETENTION_DAYS" for store in retention.days_of(settings.load({}))
    } <= rows


@pytest.mark.parametrize(("age_days", "behind_days"), [(0, 0), (30, 0), (30.9, 0), (31.5, 1.5), (100, 70)])
def test_what_should_be_gone_for_more_than_a_day_is_behind(age_days: float, behind_days: float) -> None:
    state = replace(STATE, oldest_ms=int((NOW - age_days * DAY_SECONDS) * 1000))

    assert state.behind_seconds(NOW) == pytest.approx(behind_days * DAY_SECONDS, abs=1)


def test_an_empty_store_is_not_behind_and_a_failure_counts_after_an_hour() -> None:
    failing = replace(STATE, failing_since_ms=int((NOW - 3000) * 1000), error="disk full")

    assert STATE.behind_seconds(NOW) == 0
    assert not failing.is_failing(NOW)
    assert failing.is_failing(NOW + 1000)


def test_both_are_alerts_that_name_the_store() -> None:
    at = datetime.fromtimestamp(NOW, UTC)
    late = replace(STATE, oldest_ms=int((NOW - 40 * DAY_SECONDS) * 1000))
    failing = replace(STATE, store="jsonl@a", failing_since_ms=1, error="disk full")

    (alert,) = find_alerts(replace(WELL, at=at, retention=(late,)))
    assert (alert.level, alert.condition, alert.subject) == ("bad", "retention_behind", "sql")
    assert alert.text.endswith("Is a worker of this handler running?")
    (alert,) = find_alerts(replace(WELL, at=at, retention=(replace(late, error="disk full"),)))
    assert alert.text.endswith("(disk full). See action=retention_failed in the log.")
    (alert,) = find_alerts(replace(WELL, at=at, retention=(failing,)))
    assert (alert.level, alert.text) == (
        "warn",
        "Old data of jsonl@a cannot be removed (disk full). It is retried each minute.",
    )


def test_what_nobody_has_written_for_a_month_and_what_cannot_be_read_is_not_shown() -> None:
    replies = {b"sql": msgspec.json.encode(STATE), b"x": b"rubbish"}

    assert retention.parse_states(replies, now_seconds=NOW) == (STATE,)
    assert retention.parse_states(replies, now_seconds=NOW + 31 * DAY_SECONDS) == ()


def test_a_slow_transaction_is_followed_by_a_smaller_one_and_a_fast_one_by_a_larger() -> None:
    size = BatchSize()
    size.record(0.001)
    assert size.rows == 200
    size.record(0.1)
    assert size.rows == 50
    size.record(0.02)
    assert size.rows == 50
    size.record(60)
    assert size.rows == 10
    for _ in range(20):
        size.record(0.001)
    assert size.rows == 2000


@pytest.mark.parametrize(
    ("given", "kept", "endless"),
    [
        (
            {"CALLBACKS_HANDLERS": "sql,jsonl,shop"},
            "rows of `sql` without end, files of `jsonl` without end, failures 30 days, operators' actions 366 days",
            ["rows of `sql`", "files of `jsonl`"],
        ),
        (
            {"CALLBACKS_HANDLERS": "workers.handlers.stream.handler", "CALLBACKS_RETENTION_DAYS": "1"},
            "entries of `stream` 1 day, failures 1 day, operators' actions 1 day",
            [],
        ),
    ],
)
def test_check_says_what_is_kept_for_how_long(given: dict[str, str], kept: str, endless: list[str]) -> None:
    loaded = settings.load(given)

    assert retention_check.describe_kept(loaded) == kept
    assert retention_check.list_endless(loaded) == endless
