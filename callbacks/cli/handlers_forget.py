"""`callbacks handlers forget`: remove what Redis knows of a handler that was removed."""

import click

from callbacks.cli import handler_argument
from callbacks.cli.command import Command
from callbacks.cli.redis_connection import open_redis
from shared import keys
from shared.counted import counted
from shared.did_you_mean import did_you_mean
from workers.admin import forget as forgetting


@click.command(cls=Command)
@handler_argument.name_argument
def forget(*, name: str) -> None:
    """Remove what Redis knows of NAME; its dead letters stay.

    That is its counters, metrics, subscription, filters, pause and empty queue, so no list and no page shows it any
    more. First remove it from CALLBACKS_HANDLERS, and restart the workers. It is refused while a worker runs NAME, or
    events wait for it.
    """
    with open_redis() as (_, client):
        known = forgetting.known_names(client)
        if name not in known:
            raise click.ClickException(
                f"No handler {name!r} is known{did_you_mean(name, known)}; there are: {', '.join(known) or 'none'}."
            )
        with handler_argument.record(client, "forget", name):
            forgetting.forget(client, name)
        dead = int(client.zcard(keys.dead(name)))
    click.echo(f"{name!r} is forgotten.")
    if dead:
        click.echo(
            f"Its {counted(dead, 'dead letter stays', 'dead letters stay')}, so it is still listed; to change that: "
            f"`callbacks dead drop {name} --all`, then forget it again."
        )
