"""The option `--numbers` of commands that print people's data: masked unless they are asked for in full.

Who asks for whole numbers and texts is recorded in the action log first, in one place for all commands.
"""

from typing import Any, Final

import click
import redis

from shared import connections, settings
from shared.errors import ConfigurationError
from workers.admin.action_log import command_line_user
from workers.admin.number_views import NumberViews


def _record_view(ctx: click.Context, _param: click.Parameter, value: Any) -> Any:
    if value != "full" or ctx.resilient_parsing:
        return value
    try:
        redis_url = settings.load(process="command").redis_url
    except ConfigurationError as exc:
        raise click.UsageError("\n".join(exc.problems)) from exc
    if not redis_url:
        click.echo("REDIS_URL is not set, so the action log does not record that whole numbers are shown.", err=True)
        return value
    _, _, command = ctx.command_path.partition(" ")
    client = connections.connect(redis_url)
    try:
        NumberViews(client).record(who=command_line_user(), by="command", where=command, count=0)
    except redis.RedisError as exc:
        raise click.ClickException(
            f"Whole numbers are not shown, as the action log cannot record it: {connections.redact_url(redis_url)} "
            f"cannot be used: {connections.describe_error(exc)}"
        ) from exc
    finally:
        client.close()
    return value


numbers_option: Final = click.option(
    "--numbers",
    type=click.Choice(["masked", "full"]),
    default="masked",
    show_default=True,
    callback=_record_view,
    help="Phone numbers and texts; `full` is recorded in the action log.",
)
