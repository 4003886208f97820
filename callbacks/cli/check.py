"""`callbacks check`: what is wrong with the configuration, Redis, the spool or a handler, and what to do.

Exit 0: nothing is wrong (advice may remain). 1: something is wrong. It changes nothing. With `--body` it checks a body
instead, and needs neither Redis nor settings.
"""

import sys
from collections.abc import Iterator
from typing import Any

import click
import msgspec

from callbacks.cli import body_options, body_report
from callbacks.cli.checks.access import check_allowed_addresses, check_tokens
from callbacks.cli.checks.addresses import check_addresses
from callbacks.cli.checks.folders import check_run_dir, check_spool
from callbacks.cli.checks.handlers import check_handlers
from callbacks.cli.checks.notices import check_notices
from callbacks.cli.checks.redis_servers import check_cells, check_redis
from callbacks.cli.checks.result import CheckResult, show
from callbacks.cli.checks.retention import check_retention
from callbacks.cli.checks.sealed_data import check_seal_keys
from callbacks.cli.command import Command
from shared import settings, unknown_settings
from shared.errors import ConfigurationError


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
    yield from check_tokens(loaded)
    yield from check_allowed_addresses(loaded)
    yield from check_addresses(loaded)
    yield from check_redis(loaded)
    yield from check_cells(loaded.cells)
    yield from check_spool(loaded)
    yield from check_run_dir(loaded)
    yield from check_seal_keys(loaded)
    yield from check_retention(loaded)
    yield from check_notices(loaded)
    yield from check_handlers(loaded)
