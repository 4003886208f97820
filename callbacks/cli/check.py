"""`callbacks check`: what is wrong with the configuration, Redis, the spool or a handler, and what to do.

Exit 0: nothing is wrong (advice may remain). 1: something is wrong. It changes nothing. With `--body` it checks a body
instead, and needs neither Redis nor settings.
"""

import functools
import http.client
import os
import shutil
import sys
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias

import click
import msgspec
import redis
from msgspec import Struct

from callbacks.cli import body_options, body_report, ops_address, ports, retention_check
from callbacks.cli.command import Command
from callbacks.cli.quiet_log import quiet_log
from callbacks.ops.access import sign_in_settings
from callbacks.ops.notices.targets import read_targets
from shared import connections, did_you_mean, disk, durability, failing_loops, retention, settings, unknown_settings
from shared.cells import Cell
from shared.cells_reader import CellsReader
from shared.counted import counted
from shared.errors import ConfigurationError
from shared.schema import STATUSES
from shared.setting_values import ANY_NETWORK, Token
from workers import registry
from workers.admin import queue_state
from workers.declaration import Handler
from workers.runtime import pause

State: TypeAlias = Literal["ok", "advice", "wrong"]

# A token of this length cannot be guessed over the network.
_SAFE_TOKEN_CHARACTERS = 16
# Our own /metrics answers within milliseconds, and has less than that.
_METRICS_SECONDS = 2.0
_METRICS_BYTES = 1 << 20
_MARKS: dict[State, tuple[str, str]] = {"ok": ("✓", "green"), "advice": ("!", "yellow"), "wrong": ("✗", "red")}


class CheckResult(Struct, frozen=True):
    """The result of one check: its state, what was found, and what to do about it."""

    state: State
    what: str
    remedy: str = ""


@click.command(cls=Command)
@body_options.body_options
@click.option(
    "--json", "as_json", is_flag=True, help="Print the findings as a JSON array; those of a body as an object."
)
def check(*, as_json: bool, **body: Any) -> None:
    """Check the configuration, Redis and the handlers; say what is wrong and what to do.

    With --body FILE, say instead what the service would make of a callback's body: the answer to the sender, then each
    event with its fields, and what cannot be read. Nothing is kept or sent. Numbers and texts are printed in full. An
    event's `id` depends on its source, which is `check` here. Of the settings only CALLBACKS_MAX_BODY_BYTES counts.

    Exit 0 if nothing is wrong, or if all of the body is read; otherwise 1.
    """
    report = body_options.check_body(**body)
    if report is not None:
        click.echo(body_report.to_json(report) if as_json else body_report.to_text(report))
        sys.exit(0 if report.is_well else 1)
    findings = list(_find_problems())
    if as_json:
        click.echo(msgspec.json.encode(findings))
    else:
        for finding in findings:
            show(finding)
    sys.exit(1 if any(finding.state == "wrong" for finding in findings) else 0)


def show(finding: CheckResult) -> None:
    """Print a finding, and what to do about it."""
    mark, colour = _MARKS[finding.state]
    click.secho(f"{mark} {finding.what}", fg=colour)
    if finding.remedy:
        click.echo(f"    {finding.remedy}")


def _find_problems() -> Iterator[CheckResult]:
    for unknown in unknown_settings.find():
        yield CheckResult("wrong", str(unknown), "Correct the name: a variable that is not a setting changes nothing.")
    try:
        # The handler `log` reads it by itself, below: without that handler nobody does.
        loaded = settings.load(unused=("CALLBACKS_LOG_NUMBERS",))
    except ConfigurationError as exc:
        for problem in exc.problems:
            yield CheckResult("wrong", problem, "Correct the variable; `.env` in the current folder is read too.")
        return
    yield from _tokens(loaded.tokens)
    yield from _addresses(loaded)
    yield from _listening(loaded)
    yield from _redis(loaded)
    yield from _cells(loaded.cells)
    yield from _spool(loaded)
    yield from _run_dir(loaded)
    yield from _retention(loaded)
    yield from _notices(loaded)
    yield from find_handlers_problems(loaded)


def _tokens(tokens: Sequence[Token]) -> Iterator[CheckResult]:
    if not tokens:
        yield CheckResult(
            "wrong",
            "CALLBACKS_TOKENS is not set, so the web process does not start",
            "Set it to name=token; a good token: python3 -c 'import secrets; print(secrets.token_urlsafe(24))'",
        )
        return
    for token in tokens:
        if len(token.secret) < _SAFE_TOKEN_CHARACTERS:
            yield CheckResult(
                "advice",
                f"CALLBACKS_TOKENS: the token of {token.name!r} is short",
                f"Nothing else is secret, as the gateway signs nothing: use {_SAFE_TOKEN_CHARACTERS} characters.",
            )
    yield CheckResult("ok", f"tokens of {', '.join(dict.fromkeys(token.name for token in tokens))}")


def _addresses(loaded: settings.Settings) -> Iterator[CheckResult]:
    if set(ANY_NETWORK) <= set(loaded.allowed_ips):
        yield CheckResult(
            "advice",
            "CALLBACKS_ALLOWED_IPS allows every address",
            "The gateway posts from 80.252.167.60; allow only that, unless a proxy in front does.",
        )
    else:
        yield CheckResult("ok", f"callbacks are accepted from {', '.join(map(str, loaded.allowed_ips))}")
    if loaded.trusted_proxies:
        yield CheckResult("ok", f"X-Forwarded-For is trusted from {', '.join(map(str, loaded.trusted_proxies))}")


def _listening(loaded: settings.Settings) -> Iterator[CheckResult]:
    """Try the addresses as `callbacks web` and `callbacks ops` do. One that is in use is one where they may run."""
    web, ops = (
        functools.partial(ports.bind, loaded.host, loaded.port),
        functools.partial(ops_address.bind, loaded.ops_host, loaded.ops_port, loaded),
    )
    binds = [("HOST", web), ("CALLBACKS_OPS_HOST", ops)]
    if loaded.metrics_port is not None:
        yield from _metrics_port(loaded.metrics_port, loaded)
        binds.append(
            ("CALLBACKS_METRICS_HOST", functools.partial(ports.bind, loaded.metrics_host, loaded.metrics_port))
        )
    for variable, bind in binds:
        try:
            bind().close()
        except ports.NoPort as exc:
            if not exc.is_in_use:
                yield CheckResult(
                    "wrong", f"{variable}: {exc}", "Set an address of this machine, and a port that this user may use."
                )
        except ConfigurationError as exc:
            yield CheckResult("wrong", str(exc), "Until then `callbacks ops` does not start.")
    for problem in sign_in_settings.find_problems(loaded):
        yield CheckResult("wrong", problem, "Until then `callbacks ops` does not start.")
    problem = ops_address.plain_http_problem(loaded, loaded.ops_host)
    if problem:
        yield CheckResult("advice", problem, ops_address.PLAIN_HTTP_REMEDY)


def _metrics_port(port: int, loaded: settings.Settings) -> Iterator[CheckResult]:
    """Find what else uses the port of the web process's /metrics: another setting, or another program."""
    for variable, other in (("PORT", loaded.port), ("CALLBACKS_OPS_PORT", loaded.ops_port)):
        if port and port == other:
            yield CheckResult(
                "wrong",
                f"CALLBACKS_METRICS_PORT and {variable} are both {port}",
                "Set another port: two of them cannot listen on the same one.",
            )
            return
    try:
        ports.bind(loaded.metrics_host, port).close()
    except ports.NoPort as exc:
        if exc.is_in_use and not _serves_metrics(loaded.metrics_host, port):
            yield CheckResult(
                "wrong",
                f"CALLBACKS_METRICS_PORT: {exc}, by another program than `callbacks web`",
                "Set another port, or end that program: until then the web process does not start.",
            )


def _serves_metrics(host: str, port: int) -> bool:
    """Return whether a web process of this service serves its /metrics there."""
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # a proxy does not reach this machine
    try:
        with direct.open(f"{ports.reachable_url(host, port)}/metrics", timeout=_METRICS_SECONDS) as answer:
            return b"callbacks_build_info" in answer.read(_METRICS_BYTES)
    except (OSError, ValueError, http.client.HTTPException):
        return False


def _redis(loaded: settings.Settings) -> Iterator[CheckResult]:
    if not loaded.redis_url:
        yield CheckResult(
            "wrong",
            "REDIS_URL is not set",
            "Set it to your Redis, for example redis://127.0.0.1:6379/0; `callbacks dev` does not need it.",
        )
        return
    url = connections.redact_url(loaded.redis_url)
    client = connections.connect(loaded.redis_url, timeout_seconds=connections.WEB_TIMEOUT_SECONDS)
    try:
        client.ping()
        with client.pipeline(transaction=False) as pipe:
            durability.query(pipe)
            answers = pipe.execute(raise_on_error=False)
        if loaded.durability == "memory":
            yield CheckResult(
                "advice",
                "CALLBACKS_DURABILITY=memory: a 200 does not survive a crash of Redis",
                "Remove it, so that callbacks are on disk before the gateway gets a 200.",
            )
        if loaded.durability == "managed":
            yield CheckResult(
                "advice",
                "CALLBACKS_DURABILITY=managed: a 200 is as durable as the provider of Redis promises",
                "Use fsync if the append-only file is fsynced before each reply, or WAITAOF waits: see docs/redis.md.",
            )
        for found in durability.evaluate(loaded.durability, answers):
            if found.ok and found.name == "redis":
                yield CheckResult("ok", f"REDIS_URL: {url} answers")
                continue
            if durability.is_for_the_web_process(found):
                continue
            state: State = "wrong" if not found.ok else "advice" if found.remedy else "ok"
            yield CheckResult(state, f"Redis, {found.name.replace('_', ' ')}: {found.detail}", found.remedy)
        for failing in failing_loops.list_failing_loops(client):
            yield CheckResult(
                "wrong",
                f"process {failing.process}: {failing.loop.replace('_', ' ')} keeps failing ({failing.error})",
                "action=loop_failed in its log says where in the code; it is retried until it works.",
            )
    except redis.RedisError as exc:
        yield CheckResult(
            "wrong",
            f"REDIS_URL: {url} cannot be used: {connections.describe_error(exc)}",
            "Start Redis there, or correct the address, user or password.",
        )
    finally:
        client.close()


def _cells(cells: Sequence[Cell]) -> Iterator[CheckResult]:
    if not cells:
        return
    reader = CellsReader(cells, lambda client: client.ping, timeout_seconds=connections.WEB_TIMEOUT_SECONDS)
    try:
        readings = reader.read()
    finally:
        reader.close()
    for one in readings:
        if one.value is not None:
            yield CheckResult("ok", f"CALLBACKS_CELLS: cell {one.cell!r}, {one.redis_url}, answers")
        else:
            yield CheckResult(
                "wrong",
                f"CALLBACKS_CELLS: cell {one.cell!r}: {one.problem}",
                "Start Redis there, or correct the address, user or password; until then the cell is unavailable.",
            )


def _spool(loaded: settings.Settings) -> Iterator[CheckResult]:
    if not loaded.spool_dir:
        yield CheckResult(
            "advice",
            "CALLBACKS_SPOOL_DIR is empty: while Redis is unavailable, callbacks are refused",
            "The gateway gives up after ten minutes: set it to a folder on a local disk that outlives the process.",
        )
        return
    folder = Path(loaded.spool_dir)
    if problem := disk.find_write_problem(folder):
        yield CheckResult(
            "wrong",
            f"CALLBACKS_SPOOL_DIR: {problem}",
            "Make it writable for the web process, or set another; while Redis is unavailable, callbacks are refused.",
        )
        return
    yield CheckResult("ok", f"callbacks wait in {folder} while Redis is unavailable")
    nearest = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    free_bytes = shutil.disk_usage(nearest).free
    if free_bytes < loaded.spool_max_bytes:
        yield CheckResult(
            "advice",
            f"CALLBACKS_SPOOL_MAX_BYTES is {loaded.spool_max_bytes}; its disk has {counted(free_bytes, 'byte')} left",
            "Free some space, or set it lower: a full disk may stop other programs too.",
        )


def _run_dir(loaded: settings.Settings) -> Iterator[CheckResult]:
    if loaded.run_dir and (problem := disk.find_write_problem(Path(loaded.run_dir))):
        yield CheckResult(
            "advice",
            f"CALLBACKS_RUN_DIR: {problem}",
            "Make it writable for the workers, or set another; until then a killed worker's last events come twice.",
        )


def _retention(loaded: settings.Settings) -> Iterator[CheckResult]:
    kept = f"kept: {retention_check.describe_kept(loaded)}"
    endless = retention_check.list_endless(loaded)
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


def _notices(loaded: settings.Settings) -> Iterator[CheckResult]:
    try:
        targets = read_targets(loaded)
    except ConfigurationError as exc:
        for problem in exc.problems:
            yield CheckResult("wrong", problem, "Correct it; until then `callbacks ops` does not start.")
        return
    if targets:
        names = ", ".join(target.name for target in targets)
        yield CheckResult("ok", f"notices go to {names}; `callbacks notify --test` tries them")


# The packages of the handlers that write to DATABASE_URL.
_USE_DATABASE: Final = ("workers.handlers.sql.", "workers.handlers.optout.")


def find_handlers_problems(loaded: settings.Settings) -> Iterator[CheckResult]:
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


def _pause(loaded: settings.Settings, handler: Handler) -> Iterator[CheckResult]:
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
