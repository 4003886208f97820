"""`callbacks tail`: new events in the terminal as they come, until Ctrl-C.

Numbers are masked as the handler `log` masks them, unless `--numbers full` asks for them; texts of replies are shown,
as a terminal is asked for by a person, and no log is. What is said about the feed itself goes to standard error.
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
from shared import connections, live, settings
from shared.events import Event
from shared.live import FeedItem, FeedUnavailable, Idle, Listening, Omitted
from shared.live_filter import LiveFilter
from workers.handlers.mask import mask_event

Kind: TypeAlias = Literal["report", "reply"]


@click.command(cls=Command)
@click.option("--kind", "kinds", multiple=True, type=click.Choice(["report", "reply"]), help="Only such events.")
@click.option("--status", "statuses", multiple=True, help="Only reports of this status; may be repeated.")
@click.option("--channel", "channels", multiple=True, help="Only events of this channel; may be repeated.")
@click.option("--source", "sources", multiple=True, help="Only events of the token of this name; may be repeated.")
@click.option("--to", "number", metavar="NUMBER", default="", help="Only those to this number, and its replies.")
@click.option("--count", "limit", type=click.IntRange(1), help="End after so many.")
@click.option(
    "--numbers", type=click.Choice(["masked", "full"]), default="masked", show_default=True, help="Phone numbers."
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON: one event a line, as handlers write them.")
def tail(
    *,
    kinds: tuple[Kind, ...],
    statuses: tuple[str, ...],
    channels: tuple[str, ...],
    sources: tuple[str, ...],
    number: str,
    limit: int | None,
    numbers: str,
    as_json: bool,
) -> None:
    """Show new events as they come, until Ctrl-C.

    It shows what expand workers hand to the handlers from now on: no duplicate, nothing of the past. Of very many at
    once only some are shown, and the others counted.
    """
    loaded = settings.load(needs=("REDIS_URL",))
    wanted = LiveFilter(
        kinds=frozenset(kinds),
        statuses=frozenset(statuses),
        channels=frozenset(channels),
        sources=frozenset(sources),
        number=number,
    )
    redis_url = connections.redact_url(loaded.redis_url)

    def show(event: Event) -> None:
        shown = event if numbers == "full" else mask_event(event)
        # Flushed, as whoever reads a pipe wants to see it now.
        click.echo(_format_json(shown) if as_json else _format_line(shown))

    try:
        with termination.on_signal(), contextlib.closing(live.listen_sync(loaded.redis_url)) as feed:
            _print_feed(feed, wanted=wanted, show=show, limit=limit, redis_url=redis_url)
    except termination.Terminated:
        sys.exit(0)
    except BrokenPipeError:
        broken_pipe.discard_output()
    except redis.exceptions.NoPermissionError as exc:
        raise click.ClickException(f"{redis_url} does not let us listen: {exc}. See deploy/redis/users.conf") from exc
    except redis.RedisError as exc:
        raise click.ClickException(f"{redis_url} cannot be used: {exc}") from exc


def _print_feed(
    feed: Iterable[FeedItem], *, wanted: LiveFilter, show: Callable[[Event], None], limit: int | None, redis_url: str
) -> None:
    """Show what is wanted, until there were `most` of them, or nobody reads any more (BrokenPipeError)."""
    shown, was_listening = 0, False
    for one in feed:
        match one:
            case Idle():
                broken_pipe.check_reader()
            case Listening():
                _print_notice(
                    f"Redis is back: listening to {redis_url}." if was_listening else f"Listening to {redis_url}."
                )
                was_listening = True
            case FeedUnavailable():
                _print_notice(f"{redis_url} is away ({one.error}): what is new meanwhile is not shown.")
                was_listening = True
            case Omitted():
                _print_notice(f"… {one.number:,} more not shown")
            case _ if wanted.matches(one):
                show(one)
                shown += 1
                if shown == limit:
                    return
            case _:
                pass


def _print_notice(text: str) -> None:
    click.secho(text, err=True, dim=True)


def _format_line(event: Event) -> str:
    text = msgspec.structs.replace(event, raw={}).to_json()  # of which a line shows nothing
    return format_event(msgspec.json.decode(text))


def _format_json(event: Event) -> str:
    """Give the JSON form; for a terminal, what could steer it is escaped, which means the same."""
    line = event.to_json()
    if not sys.stdout.isatty():
        return line
    return "".join(one if one.isprintable() else json.dumps(one)[1:-1] for one in line)
