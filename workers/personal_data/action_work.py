"""What is left to do of operators' bulk actions: it has the text that was searched for, which may be a number."""

from collections.abc import Iterator
from typing import Any, Final

import redis
from rq.utils import as_text

from shared import keys, sealed_field
from shared.number_search import NumberSearch
from shared.sealed_field import Unopened
from workers.personal_data.not_read import NotRead
from workers.personal_data.report import FoundItem, StoreResult, StoreUnreadable

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
        found = erased = 0
        # They stay: a process that has their key runs them, and soon ends them.
        not_read = NotRead("action")
        for action_id, _ in self._iterate(not_read):
            found += 1
            if not dry_run:
                self._connection.delete(keys.action_work(action_id))
                erased += 1
        return StoreResult(store=self.name, found=found, erased=erased, unreadable=len(not_read), why=not_read.why)

    def export(self) -> Iterator[FoundItem]:
        """Yield what is left to do of each action that mentions a number. Raise StoreUnreadable, after the last."""
        not_read = NotRead("action")
        for action_id, text in self._iterate(not_read):
            content = {"work": text.decode(errors="replace")}
            yield FoundItem(where=f"action {action_id}", until=_UNTIL, content=content)
        if not_read:
            raise StoreUnreadable(not_read.why)

    def _iterate(self, not_read: NotRead) -> Iterator[tuple[str, bytes]]:
        """Yield what mentions a number. What cannot be opened may mention it, and is counted in `not_read`."""
        ids = [as_text(action_id) for action_id in self._connection.zrange(keys.ACTIONS, 0, -1)]
        while ids:
            some, ids = ids[:_READ_SIZE], ids[_READ_SIZE:]
            with self._connection.pipeline(transaction=False) as pipe:
                for action_id in some:
                    pipe.hget(keys.action_work(action_id), "work")
                stored = pipe.execute()
            for action_id, value in zip(some, stored, strict=True):
                text = sealed_field.unseal(keys.action_work(action_id), "work", value or b"")
                if isinstance(text, Unopened):
                    not_read.add(text)
                elif self._search.find_in_bytes(text):
                    yield action_id, text
