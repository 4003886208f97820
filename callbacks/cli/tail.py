"""`callbacks tail`: new events in the terminal as they arrive, until Ctrl-C.

Numbers and texts are masked, unless `--numbers full` is given. Notices about the feed itself go to standard error.
"""

import contextlib
import json
import sys
from collections.abc import Callable, Iterable
from typing import Literal, TypeAlias

import click
import msgspec
import redis

from callbacks.cli import broken_pipe, termination
from callbacks.cli.command import Command
from callbacks.cli.event_line import format_event
from callbacks.cli.numbers_option import numbers_option
from shared import connections, live, sealed_data, settings
from shared.errors import Terminated
from shared.events import Event
from shared.live import FeedItem, FeedUnavailable, Idle, Listening, Omitted, SealedEvents
from shared.live_filter import LiveFilter
from workers.admin.message_forms import Numbers
from workers.handlers.mask import mask_event

Kind: TypeAlias = Literal["report", "reply"]


@click.command(cls=Command)
@click.option(
    "--kind", "kinds", multiple=True, type=click.Choice(["report", "reply"]), help="Only events of this kind."
)
@click.option("--status", "statuses", multiple=True, help="Only reports of this status; may be repeated.")
@click.option("--channel", "channels", multiple=True, help="Only events of this channel; may be repeated.")
@click.option("--source", "sources", multiple=True, help="Only events of the token of this name; may be repeated.")
@click.option("--to", "number", metavar="NUMBER", default="", help="Only events to this number, and its replies.")
@click.option("--count", "limit", type=click.IntRange(1), help="Stop after this many events.")
@numbers_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON, one event per line, as handlers write it.")
def tail(
    *,
    kinds: tuple[Kind, ...],
    statuses: tuple[str, ...],
    channels: tuple[str, ...],
    sources: tuple[str, ...],
    number: str,
    limit: int | None,
    numbers: Numbers,
    as_json: bool,
) -> None:
    """Show new events as they arrive, until Ctrl-C.

    It shows what expand workers enqueue for handlers from now on, without duplicates and past events. If very many
    arrive at once, it shows some and counts the others.
    """
    loaded = settings.load(process="command", needs=("REDIS_URL",))
    sealed_data.use(loaded.seal_keys)
    wanted = LiveFilter(
        kinds=frozenset(kinds),
        statuses=frozenset(statuses),
        channels=frozenset(channels),
        sources=frozenset(sources),
        number=number,
    )
    redis_url = connections.redact_url(loaded.redis_url)

    def show(event: Event) -> None:
        masked = event if numbers == "full" else mask_event(event)
        # Flushed, so that the reader of a pipe sees it at once.
        click.echo(_format_json(masked) if as_json else _format_line(masked))

    try:
        with termination.on_signal(), contextlib.closing(live.listen_sync(loaded.redis_url)) as feed:
            _print_feed(feed, wanted=wanted, show=show, limit=limit, redis_url=redis_url)
    except Terminated:
        sys.exit(0)
    except BrokenPipeError:
        broken_pipe.discard_output()
    except redis.exceptions.NoPermissionError as exc:
        raise click.ClickException(
            f"{redis_url} does not let us listen: {connections.describe_error(exc)}. See deploy/redis/users.conf"
        ) from exc
    except redis.RedisError as exc:
        raise click.ClickException(f"{redis_url} cannot be used: {connections.describe_error(exc)}") from exc


def _print_feed(
    feed: Iterable[FeedItem], *, wanted: LiveFilter, show: Callable[[Event], None], limit: int | None, redis_url: str
) -> None:
    """Show matching events, until `limit` were shown. Raise BrokenPipeError if the output has no reader."""
    count, was_listening = 0, False
    for one in feed:
        match one:
            case Idle():
                broken_pipe.check_reader()
            case Listening():
                _print_notice(
                    f"Redis is available again: listening to {redis_url}."
                    if was_listening
                    else f"Listening to {redis_url}."
                )
                was_listening = True
            case FeedUnavailable():
                _print_notice(f"{redis_url} is unavailable ({one.error}): events that arrive now are not shown.")
                was_listening = True
            case SealedEvents():
                _print_notice(f"New events cannot be shown: {one.error}.")
            case Omitted():
                _print_notice(f"… {one.number:,} more not shown")
            case _ if wanted.matches(one):
                show(one)
                count += 1
                if count == limit:
                    return
            case _:
                pass


def _print_notice(text: str) -> None:
    click.secho(text, err=True, dim=True)


def _format_line(event: Event) -> str:
    text = msgspec.structs.replace(event, raw={}).to_json()  # not shown on the line
    return format_event(msgspec.json.decode(text))


def _format_json(event: Event) -> str:
    """Return the JSON form; for a terminal, control characters are escaped, which means the same."""
    line = event.to_json()
    if not sys.stdout.isatty():
        return line
    return "".join(one if one.isprintable() else json.dumps(one)[1:-1] for one in line)
