"""`callbacks export`: all that mentions a person's number, as one JSON document."""

from datetime import UTC, datetime

import click
import msgspec

from callbacks.cli import person_stores
from callbacks.cli.command import Command
from callbacks.cli.redis_connection import open_redis
from shared.events import rfc3339
from workers.admin import action_log
from workers.admin.action_log import Action, ActionLog
from workers.personal_data.stores import NOT_REACHED


@click.command(cls=Command)
@click.argument("number", metavar="NUMBER")
def export(*, number: str) -> None:
    """Print all that mentions NUMBER, in any spelling, as one JSON document.

    Each item says where it is and until when it stays there. The action log has a record of the export, without the
    number.
    """
    search = person_stores.parse_numbers([number])
    with open_redis() as (loaded, client):
        action = Action(
            who=action_log.command_line_user(), by="command", what="export", where="people", chosen="1 number"
        )
        with ActionLog(client).record(action) as progress:
            items = [
                {"store": store.name, "where": item.where, "until": item.until, "content": item.content}
                for store in person_stores.all_stores(loaded, client, search)
                for item in store.export()
            ]
            progress.done = len(items)
    document = {
        "number": number,
        "exported_at": rfc3339(datetime.now(UTC)),
        "items": items,
        "not_reached": NOT_REACHED,
    }
    click.echo(msgspec.json.format(msgspec.json.encode(document), indent=2))
