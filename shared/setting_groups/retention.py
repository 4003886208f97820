"""The settings of how long data stay, and of how they are erased."""

from dataclasses import dataclass
from typing import ClassVar

from shared import retention
from shared.setting_groups.setting import setting
from shared.setting_values import SqlErasure, one_of, optional_integer, parse_secret


@dataclass(frozen=True, kw_only=True)
class RetentionSettings:
    """For how many days data stay, and what `callbacks forget` does."""

    title: ClassVar = "Retention and erasure"

    retention_days: int | None = setting(
        "CALLBACKS_RETENTION_DAYS",
        "",
        optional_integer(1, retention.MAX_DAYS),
        "days for which the handlers `sql`, `jsonl` and `stream` keep events, and Redis failures and operators' "
        "actions; what is older is removed; each of the next five sets it for one of them",
        shown_default="none: `sql` and `jsonl` keep all",
        read_by=("expand", "deliver"),
    )
    sql_retention_days: int | None = setting(
        "CALLBACKS_SQL_RETENTION_DAYS",
        "",
        optional_integer(1, retention.MAX_DAYS),
        "days after which the `sql` handler's rows are removed: a message's after its last report, final or not, "
        "a reply's after its receipt",
        shown_default="`CALLBACKS_RETENTION_DAYS`",
        read_by=("deliver",),
    )
    jsonl_retention_days: int | None = setting(
        "CALLBACKS_JSONL_RETENTION_DAYS",
        "",
        optional_integer(1, retention.MAX_DAYS),
        "days after which the `jsonl` handler's files are removed, counted from the last line of each",
        shown_default="`CALLBACKS_RETENTION_DAYS`",
        read_by=("deliver",),
    )
    stream_retention_days: int | None = setting(
        "CALLBACKS_STREAM_RETENTION_DAYS",
        "",
        optional_integer(1, retention.MAX_DAYS),
        "days after which entries of the `stream` handler are removed, within `CALLBACKS_STREAM_MAXLEN`",
        shown_default="`CALLBACKS_RETENTION_DAYS`",
        read_by=("deliver",),
    )
    failures_retention_days: int | None = setting(
        "CALLBACKS_FAILURES_RETENTION_DAYS",
        "",
        optional_integer(1, retention.MAX_FAILURE_DAYS),
        "days after which quarantined callbacks and dead letters are dropped",
        shown_default="30, or `CALLBACKS_RETENTION_DAYS` if that is less",
        read_by=("expand", "deliver"),
    )
    actions_retention_days: int | None = setting(
        "CALLBACKS_ACTIONS_RETENTION_DAYS",
        "",
        optional_integer(1, retention.MAX_ACTION_DAYS),
        "days after which entries of the action log are removed; it keeps at most 5000",
        shown_default="366, or `CALLBACKS_RETENTION_DAYS` if that is less",
        read_by=("expand", "deliver"),
    )
    forget_sql: SqlErasure = setting(
        "CALLBACKS_FORGET_SQL",
        "erase",
        one_of("erase", "pseudonymise"),
        "what `callbacks forget` does to rows of `sql`: `erase`, or `pseudonymise` (digests for numbers, no texts)",
        read_by=("command",),
    )
    forget_secret: str = setting(
        "CALLBACKS_FORGET_SECRET",
        "",
        parse_secret,
        "key of these digests, at least 16 characters",
        shown_default="none; required to pseudonymise",
        from_file=True,
        read_by=("command",),
    )
