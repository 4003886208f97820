"""`callbacks simulate URL`: sends callbacks to a receiver as the gateway would, and prints a summary.

Exit 0: all acknowledged. 1: a callback was discarded, nothing was accepted, or the ledger could not be written. 2:
wrong usage. 130 and 143: stopped by Ctrl-C or SIGTERM, with the summary so far. `--sample` sends one event instead.
"""

import asyncio
import re
import signal
import sys
from collections.abc import Callable
from contextlib import nullcontext
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import click
import msgspec
import uvloop
from click.core import ParameterSource

from callbacks.cli import running_dev, simulate_failure, simulate_sample
from callbacks.cli.simulate_progress import show_progress
from callbacks.simulator.campaign import Campaign, plan
from callbacks.simulator.errors import InvalidOption, SimulatorError
from callbacks.simulator.gateway import OnProgress, run
from callbacks.simulator.ledger import Ledger
from callbacks.simulator.options import CampaignOptions, DeliveryOptions
from callbacks.simulator.receiver_urls import ReceiverUrls, parse_urls, redact_url
from callbacks.simulator.summary import RunSummary
from callbacks.simulator.traffic import SPAN
from shared.counted import counted

_F = TypeVar("_F", bound=Callable[..., Any])

_WITH_SLASH = re.compile(r"\S*/\S*")
_CAMPAIGN = CampaignOptions()
_DELIVERY = DeliveryOptions()
# The options that say nothing of one event. How it is sent and printed, they all may.
_CAMPAIGN_ONLY = (
    *CampaignOptions.__struct_fields__,
    *("start_at", "rate", "connections", "retry_seconds", "ledger", "quiet"),
)


def _bundle(_context: click.Context, _option: click.Parameter, value: str) -> tuple[int, int]:
    fewest, dash, highest = value.partition("-")
    if not (fewest.isdecimal() and (highest.isdecimal() or not dash)):
        raise click.BadParameter(f"{value!r} is not of the form MIN-MAX, as in 1-20.")
    return int(fewest), int(highest if dash else fewest)


def _moment(_context: click.Context, _option: click.Parameter, value: str | None) -> datetime:
    # No time in the campaign lies in the future.
    if value is None:
        return datetime.now(UTC) - SPAN
    try:
        return datetime.fromisoformat(value)
    except ValueError:
        raise click.BadParameter(f"{value!r} is not a time such as 2026-01-31T12:00:00Z.") from None


def _number(name: str, default: float, text: str) -> Callable[[_F], _F]:
    # click checks no limits here: the field that the option sets has its own rule.
    return click.option(name, type=type(default), default=default, help=text, show_default=True)


class _Discreet(click.Command):
    """Keeps the token of a misplaced URL out of click's own errors, which quote unknown arguments."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        try:
            return super().parse_args(ctx, args)
        except click.UsageError as exc:
            redacted = _WITH_SLASH.sub(lambda word: redact_url(word[0]), exc.format_message())
            raise click.UsageError(redacted, ctx=exc.ctx) from None


@click.command(cls=_Discreet)
@click.argument("url", required=False)
@click.option("--to", metavar="URL", help="The same as the argument URL.")
@simulate_sample.options
@click.option("--single-url", is_flag=True, help="Send both reports and replies to URL itself.")
@_number("--destinations", _CAMPAIGN.destinations, "Recipients, with one message each.")
@click.option(
    "--bundle",
    metavar="MIN-MAX",
    default="{}-{}".format(*_CAMPAIGN.bundle),
    show_default=True,
    callback=_bundle,
    help="Reports in one callback.",
)
@_number("--seen", _CAMPAIGN.seen, "Share of destinations that send SEEN.")
@_number("--undelivered", _CAMPAIGN.undelivered, "Share of destinations whose message is not delivered.")
@_number("--replies", _CAMPAIGN.replies, "Replies sent by recipients.")
@_number("--reply-retries", _CAMPAIGN.reply_retries, "Share of replies sent again under a new req_uuid.")
@_number("--duplicates", _CAMPAIGN.duplicates, "Share of callbacks sent a second time.")
@_number("--out-of-order", _CAMPAIGN.out_of_order, "Share of callbacks sent out of order.")
@_number("--odd", _CAMPAIGN.odd, "Share of callbacks written oddly, as some senders write them, in each way in turn.")
@_number("--seed", _CAMPAIGN.seed, "Seed of all random values.")
@click.option(
    "--start-at",
    metavar="TIME",
    callback=_moment,
    help=f"When the campaign happened; the same seed and time send the same bytes.  [default: {SPAN} ago]",
)
@_number("--rate", _DELIVERY.rate, "Callbacks per second; 0 means no limit.")
@_number("--connections", _DELIVERY.connections, "Concurrent requests.")
@_number("--retry-seconds", _DELIVERY.retry_seconds, "Seconds to wait after a failed attempt.")
@_number("--timeout-seconds", _DELIVERY.timeout_seconds, "Maximum duration of one attempt.")
@click.option("--ca", metavar="FILE", type=click.Path(path_type=Path), help="Also trust these certificates (PEM).")
@click.option(
    "--ledger", metavar="FILE", type=click.Path(path_type=Path), help="Append what was sent and acknowledged."
)
@click.option("--json", "as_json", is_flag=True, help="Print the summary as one JSON object.")
@click.option("--quiet", is_flag=True, help="Show no progress bar.")
@click.pass_context
def simulate(
    context: click.Context,
    /,
    *,
    url: str | None,
    to: str | None,
    sample: str | None,
    single_url: bool,
    start_at: datetime,
    ledger: Path | None,
    as_json: bool,
    quiet: bool,
    **options: Any,
) -> None:
    """Send a simulated campaign's callbacks to a receiver, as the gateway would; or, with --sample, one event.

    URL is the base of the callback URLs, such as http://127.0.0.1:8080/callbacks/TOKEN: reports go to URL/status,
    replies to URL/reply. Without one it is that of the `callbacks dev` that runs in this folder. Only 200 is success;
    anything else is sent again after a wait, with three attempts in total. If nothing at all is accepted, it ends
    without the wait, unless you set --retry-seconds.

    Exit 1 if a callback was discarded or nothing was accepted.
    """
    _check_options(context, sample)
    try:
        urls = parse_urls(_find_url(url, to), single_url=single_url)
        delivery = DeliveryOptions(**_select_options(DeliveryOptions, options))
        if sample is not None:
            event = simulate_sample.make_event(sample, {field: options[field] for field in simulate_sample.FIELDS})
            simulate_sample.show(simulate_sample.send(event, urls, delivery), urls, as_json=as_json)
        campaign = plan(CampaignOptions(**_select_options(CampaignOptions, options)), start_at=start_at)
        with (
            Ledger(ledger) if ledger else nullcontext() as book,
            show_progress(urls, retry_seconds=delivery.retry_seconds, bar=not quiet) as on_progress,
        ):
            summary, ended_by = _run(
                campaign, urls, delivery, book, on_progress, gives_up=not _is_given(context, "retry_seconds")
            )
    except InvalidOption as exc:
        _raise_bad_parameter(exc)
    except SimulatorError as exc:
        raise click.ClickException(str(exc)) from exc
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGINT)
    click.echo(_as_json(summary, urls) if as_json else _as_text(summary, urls))
    if ended_by:
        sys.exit(128 + ended_by)
    if not summary.acknowledged:
        reason = next(iter(summary.failed_attempts))
        raise click.ClickException(f"nothing was accepted: {reason}. {simulate_failure.advice(reason)}")
    sys.exit(int(summary.discarded > 0))


def _check_options(context: click.Context, sample: str | None) -> None:
    """Raise UsageError for an option that goes with the other of the two: a campaign, or one event."""
    for option in simulate_sample.FIELDS if sample is None else _CAMPAIGN_ONLY:
        if _is_given(context, option):
            name = "--" + option.replace("_", "-")
            raise click.UsageError(
                f"{name} is for one event: add --sample NAME."
                if sample is None
                else f"{name} is for a campaign: remove it, or --sample."
            )


def _find_url(url: str | None, to: str | None) -> str:
    if url and to:
        raise click.UsageError("Give the URL once: as URL or as --to URL.")
    if given := url or to:
        return given
    running = running_dev.find()
    if running is None:
        raise click.UsageError(
            "Give the callback URL, as in --to http://127.0.0.1:8080/callbacks/TOKEN, "
            "or start `callbacks dev` in this folder."
        )
    click.echo(f"No URL is given: this uses the `callbacks dev` in {running_dev.DEFAULT_FOLDER}", err=True)
    return running.callbacks_url


def _is_given(context: click.Context, option: str) -> bool:
    return context.get_parameter_source(option) is not ParameterSource.DEFAULT


def _select_options(struct: type[msgspec.Struct], options: dict[str, Any]) -> dict[str, Any]:
    return {field: options[field] for field in struct.__struct_fields__}


def _run(
    campaign: Campaign,
    urls: ReceiverUrls,
    delivery: DeliveryOptions,
    ledger: Ledger | None,
    on_progress: OnProgress,
    *,
    gives_up: bool,
) -> tuple[RunSummary, int]:
    """Return the summary and the signal that ended the run, or 0."""
    signals: list[int] = []

    async def until_signalled() -> RunSummary:
        stop = asyncio.Event()

        def end(number: int) -> None:
            signals.append(number)
            stop.set()

        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, end, number)
        try:
            return await run(
                campaign,
                urls,
                options=delivery,
                ledger=ledger,
                on_progress=on_progress,
                stop=stop,
                gives_up=gives_up,
            )
        finally:
            # uvloop would leave its handlers installed, and the process would ignore both signals.
            for number in (signal.SIGINT, signal.SIGTERM):
                loop.remove_signal_handler(number)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        summary = runner.run(until_signalled())
    return summary, signals[0] if signals and summary.interrupted else 0


def _raise_bad_parameter(invalid: InvalidOption) -> NoReturn:
    """Raise click.BadParameter with the option's name on the command line, and its value."""
    name = "URL" if invalid.option == "url" else "--" + invalid.option.replace("_", "-")
    raise click.BadParameter(f"{invalid.value} {invalid.reason}.", param_hint=name) from invalid


def _as_json(summary: RunSummary, urls: ReceiverUrls) -> str:
    return msgspec.json.encode({"url": urls.redacted_url, **msgspec.structs.asdict(summary)}).decode()


def _as_text(summary: RunSummary, urls: ReceiverUrls) -> str:
    failed = f"{sum(summary.failed_attempts.values()):,} of {counted(summary.attempts, 'attempt')}"
    reasons = ", ".join(f"{reason} ({count:,})" for reason, count in summary.failed_attempts.items())
    failed += f": {reasons}" if reasons else ""
    unfinished = f" ({summary.unfinished:,} unfinished)" if summary.interrupted else ""
    lines = [
        ("sent", f"{summary.sent:,} of {counted(summary.planned, 'callback')}{unfinished} to {urls.redacted_url}"),
        ("repeats", f"{summary.repeats:,} of them"),
        *([("odd", f"{summary.odd:,} of them")] if summary.odd else []),
        (
            "acknowledged",
            f"{summary.acknowledged:,} with {counted(summary.records, 'record')}: "
            f"{counted(summary.reports, 'distinct report')}, "
            f"{counted(summary.replies, 'distinct reply', 'distinct replies')}",
        ),
        ("failed", failed),
        ("discarded", f"{summary.discarded:,}"),
        ("rate", f"{summary.rate:,.0f} callbacks/s over {summary.seconds:,.1f} s"),
    ]
    if summary.p50_ms is not None:
        latency = f"p50 {summary.p50_ms:.1f} ms, p99 {summary.p99_ms:.1f} ms, max {summary.max_ms:.1f} ms"
        lines.append(("acknowledgement", latency))
    return "\n".join(f"{name:<16} {value}" for name, value in lines)
