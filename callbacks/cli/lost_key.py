"""`callbacks lost-key`: discard what is sealed with a key that is lost."""

import re
import sys
from typing import Final

import click
import msgspec

from callbacks.cli import failure_options
from callbacks.cli.command import Command
from callbacks.cli.redis_connection import open_redis
from workers.admin import action_log, needed_keys
from workers.admin.action_log import Action, ActionLog
from workers.admin.lost_key import LostKey

_KEY_ID: Final = re.compile("[0-9a-f]{8}")


@click.command("lost-key", cls=Command)
@click.argument("key_id", metavar="KEY")
@failure_options.yes_option
@failure_options.json_option
def lost_key(*, key_id: str, yes: bool, as_json: bool) -> None:
    """Discard what is sealed with KEY, a key that is lost: without it nobody can read that any more.

    KEY is the id by which `callbacks check` and the log (action=job_sealed key=) name it. Callbacks that wait, events
    that wait or will be retried, the quarantine and dead letters count as dropped. A spool stays.

    Exit code 1 if something is left, such as a job that ran at this moment: run it again.
    """
    if not _KEY_ID.fullmatch(key_id):
        raise click.UsageError(f"{key_id!r} is not the id of a key: give its 8 hexadecimal digits, such as 3f2a9c01.")
    with open_redis() as (loaded, client):
        if key_id in {key.id.hex() for key in loaded.seal_keys}:
            raise click.UsageError(f"The key {key_id} is in CALLBACKS_SEAL_KEYS_FILE: what is sealed with it opens.")
        key = LostKey(client, key_id)
        found = key.find()
        counts = found.count()
        if counts and not yes:
            question = (
                f"Discard {needed_keys.describe(counts)} permanently? Without the key {key_id} nobody can read them."
            )
            click.confirm(question, abort=True, err=True)
        action = Action(
            who=action_log.command_line_user(),
            by="command",
            what="drop",
            where="sealed",
            chosen=f"with key {key_id}",
            number=counts.total(),
        )
        with ActionLog(client).record(action) as progress:
            for done in key.discard(found):
                progress.done += done
            left = key.find().count()
            progress.failed = left.total()
    if as_json:
        click.echo(msgspec.json.encode({"dropped": progress.done, "left": left}))
    else:
        click.echo(f"dropped: {progress.done:,}" + (f"; left: {needed_keys.describe(left)}" if left else ""))
    sys.exit(1 if left else 0)
