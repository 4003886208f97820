"""`callbacks demo`: a simulated campaign through the whole service, and the sum that has to come out.

Everything is real: a durable Redis, the web process, the workers, HTTP on loopback. What the gateway had acknowledged
(its ledger) is compared event by event with what the `log` handler wrote, and with the service's own audit.
"""

import secrets
import shutil
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import click
import msgspec
from msgspec import Struct
from rich.console import Console
from rich.table import Table

from callbacks.cli import folder_lock, termination
from callbacks.cli.ports import free_port
from callbacks.cli.progress_bars import ProgressBars
from callbacks.cli.service import Service
from callbacks.simulator import gateway, ledger
from callbacks.simulator.campaign import Campaign, plan
from callbacks.simulator.options import CampaignOptions, DeliveryOptions
from callbacks.simulator.receiver_urls import parse_urls
from callbacks.simulator.summary import RunSummary
from callbacks.simulator.traffic import SPAN
from shared import audit, connections, events
from shared.counted import counted
from shared.errors import CallbacksError, Terminated

_SOURCE: Final = "demo"
# The gateway waits 300 s before it repeats a failed callback; a demo should not take that long.
_RETRY_SECONDS: Final = 2.0
# Removed at each start. Anything else in the folder belongs to the user.
_OWN_FILES: Final = ("redis", "spool", "run", "events.jsonl", "ledger.jsonl", "web.log", "expand.log", "deliver.log")
# After this time without progress the demo reports that something is stuck.
_STALL_SECONDS: Final = 30.0


class DemoResult(Struct, frozen=True, kw_only=True):
    """What the gateway sent, what the service counted, and what the handler wrote."""

    summary: RunSummary
    audit: audit.Audit
    expected: frozenset[str]
    written: Counter[str]

    def problems(self) -> Iterator[str]:
        """Yield what does not balance, in words."""
        if self.summary.discarded or self.summary.unfinished:
            yield f"{counted(self.summary.discarded + self.summary.unfinished, 'callback')} not acknowledged"
        if self.audit.pending:
            yield f"{counted(self.audit.pending, 'record or event', 'records or events')} still on the way"
        if self.audit.missing:
            yield f"of the records received, {self.audit.missing} are unaccounted for"
        for handler in self.audit.handlers:
            if handler.missing:
                yield f"of the events for {handler.handler!r}, {handler.missing} are unaccounted for"
        if len(self.expected) != self.summary.reports + self.summary.replies:
            # The gateway has its own ids: if two of them became one id of ours, two events would count as one.
            yield f"{self.summary.reports + self.summary.replies} events have only {len(self.expected)} ids"
        if self.audit.received != self.summary.records:
            yield f"{self.summary.records} records were acknowledged, {self.audit.received} were received"
        lost = self.expected - self.written.keys()
        invented = self.written.keys() - self.expected
        duplicated = sum(number - 1 for number in self.written.values())
        for number, what in ((len(lost), "lost"), (len(invented), "never sent"), (duplicated, "delivered twice")):
            if number:
                yield f"{counted(number, 'event')} {what}"


@click.command()
@click.option("--destinations", type=click.IntRange(1, 200_000), default=1000, show_default=True, help="Recipients.")
@click.option("--replies", type=click.IntRange(0, 200_000), default=100, show_default=True, help="Replies they send.")
@click.option("--seed", type=int, default=1, show_default=True, help="Seed of all random values except the times.")
@click.option(
    "--folder",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("var/demo"),
    show_default=True,
    help="Folder for its files; each start removes those of the last demo.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def demo(*, destinations: int, replies: int, seed: int, folder: Path, as_json: bool) -> None:
    """Send a simulated campaign through the whole service, and check that every event was delivered once.

    Exit 0 if it balances, 1 if not. It leaves no process running.
    """
    options = CampaignOptions(destinations=destinations, replies=replies, seed=seed)
    try:
        with termination.on_signal(), _own_folder(folder):
            result = _run_campaign(plan(options, start_at=datetime.now(UTC) - SPAN), folder)
    except Terminated:
        click.echo("Interrupted; no process is left running.", err=True)
        raise
    except CallbacksError as exc:
        raise click.ClickException(str(exc)) from exc
    problems = list(result.problems())
    click.echo(_as_json(result, problems) if as_json else "", nl=as_json)
    if not as_json:
        Console().print(_table(result))
    for problem in problems:
        click.echo(f"It does not balance: {problem}.", err=True)
    if not problems and not as_json:
        click.echo(f"It balances: each of {counted(len(result.expected), 'event')} was delivered exactly once.")
    sys.exit(1 if problems else 0)


@contextmanager
def _own_folder(folder: Path) -> Iterator[None]:
    """Lock the demo's folder and remove the files of the last demo. Raise CallbacksError if it has other files."""
    try:
        is_foreign = folder.exists() and not (folder / folder_lock.LOCK_FILE).exists() and any(folder.iterdir())
    except OSError as exc:
        raise folder_lock.CannotWrite(folder, exc) from exc
    if is_foreign:
        raise CallbacksError(f"{folder} has files that are not a demo's; name another --folder")
    with folder_lock.lock(folder, owner="demo"):
        for name in _OWN_FILES:
            _remove(folder / name)
        yield


def _remove(entry: Path) -> None:
    try:
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        else:
            entry.unlink(missing_ok=True)
    except OSError as exc:  # shutil names a file without its folder
        raise folder_lock.CannotWrite(entry, exc) from exc


def _run_campaign(campaign: Campaign, folder: Path) -> DemoResult:
    token, port = secrets.token_urlsafe(24), free_port()
    log_file, ledger_file = (folder / "events.jsonl").resolve(), folder / "ledger.jsonl"
    environment = {
        "HOST": "127.0.0.1",
        "PORT": str(port),
        "WEB_CONCURRENCY": "1",
        "CALLBACKS_TOKENS": f"{_SOURCE}={token}",
        "CALLBACKS_ALLOWED_IPS": "127.0.0.1",
        "CALLBACKS_TRUSTED_PROXIES": "",
        "CALLBACKS_DURABILITY": "fsync",
        "CALLBACKS_HANDLERS": "log",
        "CALLBACKS_LOG_FILE": str(log_file),
        "CALLBACKS_LOG_NUMBERS": "masked",
        "CALLBACKS_SPOOL_DIR": str(folder / "spool"),
        "CALLBACKS_RUN_DIR": str(folder / "run"),
        "CALLBACKS_DEDUPE_SECONDS": "86400",
        "CALLBACKS_MAX_BODY_BYTES": "",
        "CALLBACKS_BODY_TIMEOUT_SECONDS": "",
    }
    console = Console(stderr=True)
    service = Service(folder, url=f"http://127.0.0.1:{port}", environment=environment, quiet=True)
    with ExitStack() as stack:
        starting = "starting Redis, the web process and the workers"
        if not console.is_terminal:
            console.print(starting)
        with console.status(starting):
            stack.enter_context(service)
            service.start()
        console.print(
            f"{counted(len(campaign.callbacks), 'callback')} to http://127.0.0.1:{port}/callbacks/…, files in {folder}"
        )
        with ProgressBars(console) as bars, ledger.Ledger(ledger_file) as book:
            summary = _send(campaign, f"http://127.0.0.1:{port}/callbacks/{token}", book, bars)
            sums = _wait_for_delivery(service, summary, bars)
        service.check()
    entries = ledger.unique_events(ledger.read(ledger_file))
    return DemoResult(
        summary=summary,
        audit=sums,
        expected=frozenset(
            {events.report_id(_SOURCE, *report) for report in entries.reports}
            | {events.reply_id(_SOURCE, reply_message_id) for reply_message_id in entries.replies}
        ),
        written=_count_written(log_file),
    )


def _send(campaign: Campaign, url: str, book: ledger.Ledger, bars: ProgressBars) -> RunSummary:
    task = bars.add_task("callbacks acknowledged", total=len(campaign.callbacks))
    return termination.run(
        gateway.run(
            campaign,
            parse_urls(url),
            options=DeliveryOptions(retry_seconds=_RETRY_SECONDS),
            ledger=book,
            on_progress=lambda progress: bars.update(task, completed=progress.acknowledged + progress.discarded),
        )
    )


def _wait_for_delivery(service: Service, summary: RunSummary, bars: ProgressBars) -> audit.Audit:
    """Wait until every event is delivered, or nothing has moved for _STALL_SECONDS."""
    task = bars.add_task("events delivered", total=summary.reports + summary.replies)
    client = connections.connect(service.redis.url)
    before, moved = (0, 0), time.monotonic()
    while True:
        sums = audit.run(client)
        delivered = sum(handler.delivered for handler in sums.handlers)
        bars.update(task, completed=delivered)
        if sums.pending == 0 and not sums.moving and sums.received >= summary.records:
            break
        if (sums.pending, delivered) != before:
            before, moved = (sums.pending, delivered), time.monotonic()
        elif time.monotonic() - moved > _STALL_SECONDS:
            break
        service.check()
        time.sleep(0.1)
    client.close()
    return sums


def _count_written(log_file: Path) -> Counter[str]:
    if not log_file.exists():
        return Counter()
    with log_file.open(encoding="utf-8") as lines:
        return Counter(msgspec.json.decode(line)["id"] for line in lines)


def _result_rows(result: DemoResult) -> list[tuple[str, int, str]]:
    sums, summary = result.audit, result.summary
    return [
        ("callbacks sent", summary.sent, f"{summary.repeats:,} of them repeats"),
        (
            "callbacks acknowledged with 200",
            summary.acknowledged,
            f"p50 {summary.p50_ms:.1f} ms, p99 {summary.p99_ms:.1f} ms"
            if summary.p50_ms is not None and summary.p99_ms is not None
            else "",
        ),
        ("callbacks discarded", summary.discarded, "after three attempts"),
        ("records in them", summary.records, "reports and replies"),
        ("  new: events", sums.unique, ""),
        ("  duplicates", sums.duplicate, "seen before, so not delivered again"),
        ("  quarantined", sums.quarantined, "could not be read"),
        *(
            row
            for handler in sums.handlers
            for row in (
                (f"delivered to {handler.handler!r}", handler.delivered, ""),
                (f"dead letters of {handler.handler!r}", handler.dead, ""),
            )
        ),
        ("still on their way", sums.pending, ""),
    ]


def _table(result: DemoResult) -> Table:
    table = Table(title="What became of the campaign", title_justify="left")
    table.add_column("")
    table.add_column("number", justify="right")
    table.add_column("")
    for name, number, remark in _result_rows(result):
        table.add_row(name, f"{number:,}", remark)
    return table


def _as_json(result: DemoResult, problems: list[str]) -> str:
    totals = {name.strip(): number for name, number, _ in _result_rows(result)}
    return msgspec.json.encode({"balances": not problems, "problems": problems, "totals": totals}).decode()
