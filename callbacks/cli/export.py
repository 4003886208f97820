"""`callbacks export`: all that mentions a person's number, as one JSON document."""

import sys
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import Any

import click
import msgspec
import redis

from callbacks.cli import person_numbers, person_stores
from callbacks.cli.command import Command
from callbacks.cli.redis_connection import open_redis
from shared import connections
from shared.events import rfc3339
from workers.admin import action_log
from workers.admin.action_log import Action, ActionLog
from workers.personal_data.report import StoreUnreadable
from workers.personal_data.stores import NOT_EXPORTED, NOT_REACHED, PersonStore


@click.command(cls=Command)
@click.argument("number", metavar="NUMBER")
def export(*, number: str) -> None:
    """Print all that mentions NUMBER, in any spelling, as one JSON document.

    Each item says where it is and until when it stays there. The action log has a record of the export, without the
    number. What cannot be read is listed as `not_read`, with exit code 1.
    """
    search = person_numbers.parse([number])
    with open_redis() as (loaded, client):
        action = Action(
            who=action_log.command_line_user(), by="command", what="export", where="people", chosen="1 number"
        )
        with ActionLog(client).record(action) as progress:
            not_read: list[str] = []
            items = list(_items(person_stores.stores_to_read(loaded, client, search), not_read))
            progress.done, progress.failed = len(items), len(not_read)
    document = {
        "number": number,
        "exported_at": rfc3339(datetime.now(UTC)),
        "items": items,
        "not_read": not_read,
        "not_reached": (*NOT_REACHED, NOT_EXPORTED),
    }
    click.echo(msgspec.json.format(msgspec.json.encode(document), indent=2))
    sys.exit(1 if not_read else 0)


def _items(stores: Iterable[PersonStore], not_read: list[str]) -> Iterator[dict[str, Any]]:
    """Yield what all stores hold; add to `not_read` what cannot be read of them."""
    for store in stores:
        try:
            for item in store.export():
                yield {"store": store.name, "where": item.where, "until": item.until, "content": item.content}
        except (StoreUnreadable, OSError) as exc:
            not_read.append(f"{store.name}: {exc}")
        except redis.RedisError as exc:
            not_read.append(f"{store.name}: {connections.describe_error(exc)}")
