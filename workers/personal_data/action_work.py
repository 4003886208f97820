"""What is left to do of operators' bulk actions: it has the text that was searched for, which may be a number."""

from collections.abc import Iterator
from typing import Any, Final

import redis
from rq.utils import as_text

from shared import keys, sealed_field
from shared.number_search import NumberSearch
from shared.sealed_field import Unopened
from workers.personal_data.report import FoundItem, StoreResult

_UNTIL: Final = "until the action ends, at most a day after its last step"
_READ_SIZE: Final = 500


class ActionWork:
    """What is left to do of each bulk action, over one connection. Each method raises redis.RedisError."""

    name = "actions"

    def __init__(self, connection: redis.Redis, search: NumberSearch) -> None:
        self._connection: Any = connection
        self._search = search

    def erase(self, *, dry_run: bool) -> StoreResult:
        """Delete what is left of each action that mentions a number: a process that runs it ends after its step."""
        found = erased = unopened = 0
        for action_id, text in self._iterate():
            found += 1
            unopened += isinstance(text, Unopened)
            if not dry_run:
                # Without its key nobody can resume it either.
                erased += int(self._connection.delete(keys.action_work(action_id)))
        why = f"{unopened} could not be opened, so that nobody could resume them" if unopened else ""
        return StoreResult(store=self.name, found=found, erased=erased, why=why)

    def export(self) -> Iterator[FoundItem]:
        """Yield what is left to do of each action that mentions a number."""
        for action_id, text in self._iterate():
            content = {"unreadable" if isinstance(text, Unopened) else "work": text.decode(errors="replace")}
            yield FoundItem(where=f"action {action_id}", until=_UNTIL, content=content)

    def _iterate(self) -> Iterator[tuple[str, bytes]]:
        """Yield what mentions a number, or cannot be opened and may."""
        ids = [as_text(action_id) for action_id in self._connection.zrange(keys.ACTIONS, 0, -1)]
        while ids:
            some, ids = ids[:_READ_SIZE], ids[_READ_SIZE:]
            with self._connection.pipeline(transaction=False) as pipe:
                for action_id in some:
                    pipe.hget(keys.action_work(action_id), "work")
                stored = pipe.execute()
            for action_id, value in zip(some, stored, strict=True):
                text = sealed_field.unseal(keys.action_work(action_id), "work", value or b"")
                if isinstance(text, Unopened) or self._search.find_in_bytes(text):
                    yield action_id, text
