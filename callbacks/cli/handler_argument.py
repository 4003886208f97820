"""What `callbacks handlers pause`, `resume`, `drain` and `purge` share: the argument NAME and the action log."""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Final

import click
import redis

from shared.did_you_mean import did_you_mean
from workers.admin import action_log, handler_states
from workers.admin.action_log import Action, ActionKind, ActionLog, ActionProgress
from workers.admin.handler_catalog import CatalogEntry
from workers.runtime.pause import PauseState

name_argument: Final = click.argument("name", metavar="NAME")


def record(
    client: redis.Redis, what: ActionKind, name: str, *, number: int | None = None
) -> AbstractContextManager[ActionProgress]:
    """Record in the action log what is done to the handler NAME inside the context."""
    action = Action(who=action_log.command_line_user(), by="command", what=what, where=f"handler:{name}", number=number)
    return ActionLog(client).record(action)


def require_known(found: Sequence[CatalogEntry], client: redis.Redis, name: str) -> None:
    """Raise click.UsageError unless CALLBACKS_HANDLERS names the handler or Redis knows it."""
    named = {one.name for one in found if one.is_named and one.handler is not None}
    known = named | set(handler_states.known_names(client))
    if name not in known:
        meant = did_you_mean(name, known)
        raise click.UsageError(f"No handler {name!r} is known{meant}; there are: {', '.join(sorted(known)) or 'none'}.")


def is_named(found: Sequence[CatalogEntry], name: str) -> bool:
    """Return whether CALLBACKS_HANDLERS names the handler."""
    return any(one.is_named and one.name == name for one in found)


def is_paused_by_operator(pause_state: PauseState | None) -> bool:
    """Return whether the handler is paused until an operator resumes it."""
    return pause_state is not None and pause_state.until is None
