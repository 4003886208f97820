"""What `callbacks check` says of retention: what is kept for how long, and what is kept without end."""

from collections.abc import Iterator
from typing import Final

from callbacks.cli.checks.result import CheckResult
from shared import retention
from shared.counted import counted
from shared.retention import Store
from shared.settings import Settings
from workers.retention import stores

_WORDS: Final[dict[Store, str]] = {
    "sql": "rows of `sql`",
    "jsonl": "files of `jsonl`",
    "stream": "entries of `stream`",
    "failures": "failures",
    "actions": "operators' actions",
}


def check_retention(loaded: Settings) -> Iterator[CheckResult]:
    """Yield what is kept for how long, and advice if something is kept without end."""
    kept = f"kept: {describe_kept(loaded)}"
    endless = list_endless(loaded)
    if endless:
        yield CheckResult(
            "advice",
            kept,
            f"Set {retention.SETTING} to the days for which you may keep people's data: {', '.join(endless)} grow "
            "without end.",
        )
    elif loaded.retention_days is None:
        yield CheckResult(
            "advice",
            kept,
            f"{retention.SETTING} is not set: set it to the days for which you may keep people's data, in every store.",
        )
    else:
        yield CheckResult("ok", kept)


def describe_kept(loaded: Settings) -> str:
    """Return what is kept for how long, of the stores of this configuration."""
    days = retention.days_of(loaded)
    kept = ((store, days[store]) for store in _used(loaded))
    return ", ".join(f"{_WORDS[store]} {'without end' if n is None else counted(n, 'day')}" for store, n in kept)


def list_endless(loaded: Settings) -> list[str]:
    """Return the stores of this configuration that keep what they hold without end, in words."""
    days = retention.days_of(loaded)
    return [_WORDS[store] for store in _used(loaded) if days[store] is None]


def _used(loaded: Settings) -> list[Store]:
    return [*stores.used_by(loaded.handlers), "failures", "actions"]
