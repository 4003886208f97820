"""What the web process keeps, put into a redis-py pipeline by a test."""

from collections.abc import Iterable, Sequence
from typing import Any

from shared import batches
from shared.batches import Kept, Quarantined


def add(pipe: Any, kept: Sequence[Kept], quarantined: Iterable[Quarantined] = ()) -> None:
    """Put into `pipe` the commands that keep these callbacks."""
    for command in batches.commands(kept, quarantined):
        pipe.execute_command(*command)
