"""The stream of the handler `stream`: entries that mention a number are deleted, and the stream is written anew.

An entry that is deleted keeps its bytes in Redis and in its files as long as its neighbours live, so the stream is
copied without it. Consumer groups keep where they are and what is pending with them.
"""

from collections.abc import Iterator
from typing import Any, Final

import redis
from rq.utils import as_text

from shared import connections
from shared.number_search import NumberSearch
from workers.personal_data.report import FoundItem, StoreResult, parse_line
from workers.runtime import scripts

_UNTIL: Final = "until CALLBACKS_STREAM_MAXLEN newer entries have come"
_ENTRIES_PER_READ: Final = 500
# Redis does nothing else meanwhile, for some milliseconds.
_ENTRIES_PER_STEP: Final = 1000
_MAX_COPIES: Final = 5
_COPY_SECONDS: Final = 3600


class StreamEntries:
    """The stream `key` in the Redis at `url`.

    `resumes`: an earlier run was interrupted, perhaps between deleting entries and writing the stream anew.
    """

    name = "stream"

    def __init__(self, url: str, key: str, search: NumberSearch, *, resumes: bool = False) -> None:
        self._url = url
        self._key = key
        self._search = search
        self._resumes = resumes

    def erase(self, *, dry_run: bool) -> StoreResult:
        """Delete the entries that mention a number, and write the stream anew."""
        found = erased = 0
        try:
            client: Any = connections.connect(self._url)
            try:
                ids = [entry_id for entry_id, _ in self._iterate(client)]
                found = len(ids)
                for first in range(0, 0 if dry_run else found, _ENTRIES_PER_READ):
                    erased += client.xdel(self._key, *ids[first : first + _ENTRIES_PER_READ])
                is_clean = not (erased or (self._resumes and not dry_run)) or self._copy(client)
            finally:
                client.close()
        except (redis.RedisError, OSError) as exc:
            why = f"{connections.redact_url(self._url)}: {connections.describe_error(exc)}"
            return StoreResult(store=self.name, found=found, erased=erased, why=why, failed=True)
        # What a consumer deleted meanwhile is gone too.
        erased = 0 if dry_run else found
        why = "" if is_clean else "consumers delete entries all the time: their bytes are left until these are trimmed"
        return StoreResult(store=self.name, found=found, erased=erased, why=why, failed=not is_clean)

    def export(self) -> Iterator[FoundItem]:
        """Yield each entry that mentions a number. Raise redis.RedisError."""
        client = connections.connect(self._url)
        try:
            for entry_id, event in self._iterate(client):
                yield FoundItem(where=f"stream {self._key}, {entry_id}", until=_UNTIL, content=parse_line(event))
        finally:
            client.close()

    def _iterate(self, client: Any) -> Iterator[tuple[str, str]]:
        if as_text(client.type(self._key)) != "stream":
            return
        last = "-"
        while entries := client.xrange(self._key, last, "+", count=_ENTRIES_PER_READ):
            for entry_id, fields in entries:
                if any(self._search.find_in_bytes(value) for value in fields.values()):
                    yield as_text(entry_id), fields.get(b"event", b"").decode(errors="replace")
            last = f"({as_text(entries[-1][0])}"

    def _copy(self, client: Any) -> bool:
        """Put a copy in the stream's place; return whether it could be done."""
        if as_text(client.type(self._key)) != "stream":
            return True
        # In a cluster, keys with the same part in braces are in the same slot.
        copy = f"{self._key if '{' in self._key else f'{{{self._key}}}'}:copy"
        script = client.register_script(scripts.load("personal_data/rewrite_stream"))
        for _ in range(_MAX_COPIES):
            client.delete(copy)
            last, result = "0-0", 0
            while result == 0:
                last = self._copy_after(client, copy, last)
                result = script(keys=[self._key, copy], args=[last, _ENTRIES_PER_STEP])
            if result == 1:
                return True
        client.delete(copy)
        return False

    def _copy_after(self, client: Any, copy: str, last: str) -> str:
        """Copy the entries after `last`; return the id of the last one that is in the copy."""
        newest = client.xrevrange(copy, count=1)
        last = as_text(newest[0][0]) if newest else last
        while entries := client.xrange(self._key, f"({last}", "+", count=_ENTRIES_PER_READ):
            with client.pipeline(transaction=False) as pipe:
                for entry_id, fields in entries:
                    pipe.xadd(copy, fields, id=entry_id)
                # Should this process be killed, the copy goes by itself.
                pipe.expire(copy, _COPY_SECONDS)
                pipe.execute()
            last = as_text(entries[-1][0])
            if len(entries) < _ENTRIES_PER_READ:
                break
        return last
