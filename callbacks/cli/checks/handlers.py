"""Whether the handlers can be loaded, which are paused, and whether what they write to can be used."""

import os
from collections.abc import Iterator
from typing import Final

import redis

from callbacks.cli.checks.result import CheckResult
from callbacks.cli.quiet_log import quiet_log
from shared import connections, did_you_mean
from shared.counted import counted
from shared.schema import STATUSES
from shared.settings import Settings
from workers import registry
from workers.admin import queue_state
from workers.declaration import Handler
from workers.runtime import pause

# The packages of the handlers that write to DATABASE_URL.
_USE_DATABASE: Final = ("workers.handlers.sql.", "workers.handlers.optout.")


def check_handlers(loaded: Settings) -> Iterator[CheckResult]:
    """Yield what there is to say of the handlers, and of the database if one of them writes to it."""
    with quiet_log():
        found = registry.load_each(loaded.handlers, with_settings=True)
    for error in found.problems.values():
        for problem in error.problems:
            yield CheckResult(
                "wrong",
                problem,
                "Correct the handler or CALLBACKS_HANDLERS; until then its workers stop, the others keep running.",
            )
    has_checked_database = False
    for handler in (handler for handlers in found.handlers.values() for handler in handlers):
        yield CheckResult("ok", f"handler {handler.name!r}: {handler.location}")
        yield from _pause(loaded, handler)
        for status in sorted((handler.statuses or frozenset()) - STATUSES):
            meant = did_you_mean.closest(status, STATUSES)
            yield CheckResult(
                "advice",
                f"handler {handler.name!r} waits for the status {status!r}, which the specification does not know",
                f"Did you mean {meant}?" if meant else f"It knows {', '.join(sorted(STATUSES))}.",
            )
        if not has_checked_database and handler.location.startswith(_USE_DATABASE):
            has_checked_database = True
            yield from _database(loaded.database_url)
        if handler.location.startswith("workers.handlers.stream."):
            yield from _stream()
        if handler.location.startswith("workers.handlers.forward."):
            yield from _forward(handler.name)


def _pause(loaded: Settings, handler: Handler) -> Iterator[CheckResult]:
    if not loaded.redis_url:
        return
    client = connections.connect(loaded.redis_url, timeout_seconds=connections.WEB_TIMEOUT_SECONDS)
    try:
        pause_state = pause.read_state(client, handler.name)
        if pause_state is None:
            return
        waits = f"{counted(queue_state.read_state(client, handler.name).total, 'event waits', 'events wait')}"
    except redis.RedisError:
        return  # reported above
    finally:
        client.close()
    since = f"since {pause_state.since:%Y-%m-%d %H:%M:%S} UTC"
    if pause_state.until is None:
        yield CheckResult(
            "advice",
            f"handler {handler.name!r} is paused by an operator {since}: {waits}",
            f"No event is lost; `callbacks handlers resume {handler.name}` resumes it.",
        )
        return
    until = f"until {pause_state.until:%Y-%m-%d %H:%M:%S}" if pause_state.seconds_left else "until the next event"
    yield CheckResult(
        "advice",
        f"handler {handler.name!r} is paused {since}, {until}: {pause_state.reason or 'no reason given'}; {waits}",
        f"Then one event is tried, and if it succeeds, all are; `callbacks handlers resume {handler.name}` ends it.",
    )


def _database(url: str) -> Iterator[CheckResult]:
    # Only if its handler is named: its libraries may not be installed, and the variable may be another program's.
    from workers.handlers.sql import database_check, database_url  # noqa: PLC0415

    address = database_url.DatabaseUrl.parse(url)
    problem = database_check.find_problem(address)
    if problem:
        yield CheckResult(
            "wrong",
            f"DATABASE_URL: {address.redacted_url} cannot be used: {problem}",
            "Start the database there, or correct the address, password or privileges; until then events wait.",
        )
    else:
        yield CheckResult("ok", f"DATABASE_URL: {address.redacted_url} can be used")


def _forward(name: str) -> Iterator[CheckResult]:
    from workers.handlers.forward import signature, targets  # noqa: PLC0415 # only if its handler is named

    target = targets.read_target(os.environ, name)
    if not target.secrets:
        yield CheckResult(
            "advice",
            f"handler {name!r} sends unsigned requests to {target.redacted_url}: secrets are {signature.UNSIGNED!r}",
            f"The target cannot verify where they come from. Set a secret; {signature.HOW_TO_MAKE}.",
        )


def _stream() -> Iterator[CheckResult]:
    from workers.handlers.stream.handler import EventStream  # noqa: PLC0415 # only if its handler is named

    if problem := EventStream.from_environ(os.environ).find_problem():
        yield CheckResult(
            "wrong",
            f"CALLBACKS_STREAM_URL: {problem}",
            "Start Redis there, or correct the address, user or password; until then the handler's events wait.",
        )
