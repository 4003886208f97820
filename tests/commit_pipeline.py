"""What the web process keeps, put into a redis-py pipeline by a test."""

from collections.abc import Iterable, Sequence
from typing import Any

from shared import batches
from shared.batches import Accepted, Quarantined


def add(pipe: Any, kept: Sequence[Accepted], quarantined: Iterable[Quarantined] = ()) -> None:
    """Put into `pipe` the commands that keep these callbacks."""
    for command in batches.commit_commands(kept, quarantined):
        pipe.execute_command(*command)
