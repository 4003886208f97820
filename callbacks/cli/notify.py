"""`callbacks notify`: the targets of notices (CALLBACKS_NOTIFY), and whether a notice reaches them."""

import sys
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import click
import msgspec

from callbacks.cli.command import Command
from callbacks.ops.notices.notice import Notice
from callbacks.ops.notices.targets import NoticeTarget, read_targets
from shared import settings
from shared.errors import ConfigurationError


@click.command(cls=Command)
@click.option("--test", "is_test", is_flag=True, help="Send one test notice to each target.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON array with an object for each target.")
def notify(*, is_test: bool, as_json: bool) -> None:
    """List the targets of notices; with --test, send a test notice to each and say whether it arrived.

    `callbacks ops` sends the notices. Exit 1 if a test notice did not arrive.
    """
    targets = read_targets(settings.load(process="notify"))
    if not targets:
        raise ConfigurationError(["CALLBACKS_NOTIFY is not set: set it to one or more URLs, as in docs/operations.md"])
    problems = _send_test(targets) if is_test else None
    if as_json:
        click.echo(msgspec.json.encode(_to_json(targets, problems)))
    else:
        for index, target in enumerate(targets):
            _show(target, None if problems is None else problems[index])
    sys.exit(1 if any(problems or ()) else 0)


def _send_test(targets: list[NoticeTarget]) -> list[str]:
    """Send a notice to each target at the same time; return what went wrong, "" where it arrived."""
    now_seconds = time.time()
    text = "A test of the notices of this service. Nothing is wrong."
    test = Notice(condition="test", state="test", text=text, at_seconds=now_seconds, started_at_seconds=now_seconds)
    with ThreadPoolExecutor(len(targets)) as threads:
        return list(threads.map(lambda target: target.sender.send([test]), targets))


def _to_json(targets: list[NoticeTarget], problems: list[str] | None) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = [{"target": target.name} for target in targets]
    for row, problem in zip(rows, problems or (), strict=False):
        row |= {"arrived": not problem, "problem": problem or None}
    return rows


def _show(target: NoticeTarget, problem: str | None) -> None:
    if problem is None:
        click.echo(target.name)
    elif problem:
        click.secho(f"✗ {target.name}: {problem}", fg="red")
    else:
        click.secho(f"✓ {target.name}: arrived", fg="green")
