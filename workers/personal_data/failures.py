"""The quarantine and the dead letters: a failure that mentions a number is erased; of a bundle, only those records.

A body is searched as it was received, without its compression, and in UTF-8 and UTF-16; what stays of a bundle is kept
in UTF-8, without compression. What cannot be taken apart is erased whole.
"""

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any, Final

import msgspec
import redis
from rq.utils import as_text

from shared import batches, failure_fields, keys, queues, sealed_data
from shared.batches import Accepted
from shared.number_search import NumberSearch
from shared.sealed_field import Unopened
from workers.failures import store
from workers.failures.body_forms import plain_forms
from workers.failures.cursor import Cursor, IndexReader
from workers.failures.failure_list import FailureList, all_lists
from workers.failures.store import FailureStore
from workers.personal_data import record_bodies
from workers.personal_data.not_read import NotRead
from workers.personal_data.report import FoundItem, StoreResult, StoreUnreadable
from workers.runtime import scripts

_UNTIL: Final = "until it is replayed or dropped, at most CALLBACKS_FAILURES_RETENTION_DAYS (30)"
_READ_SIZE: Final = 500
_DAMAGED: Final = b"some of it is sealed and damaged: drop it with `callbacks quarantine drop` or `callbacks dead drop`"
_NAMES: Final = (
    "body", "event", "headers", "error", "traceback", "whole_error", "whole_traceback",
    "kind", "records", "source", "received_ms",
)  # fmt: skip
# What may quote a number.
_SEARCHED: Final = ("event", "error", "traceback", "whole_error", "whole_traceback", "headers")


class Failures:
    """All lists of failures over one connection. Each method raises redis.RedisError."""

    name = "failures"

    def __init__(self, connection: redis.Redis, search: NumberSearch) -> None:
        self._connection: Any = connection
        self._search = search
        self._store = FailureStore(connection)
        self._reader = IndexReader(connection)
        self._script = connection.register_script(scripts.load("types", "personal_data/rewrite_failure"))

    def erase(self, *, dry_run: bool) -> StoreResult:
        """Erase what mentions a number, once. A failure that was replayed meanwhile is found as a job."""
        found = erased = 0
        not_read = NotRead("failure")
        for failure_list, failure_id, fields in self._iterate(not_read):
            number = int(fields["records"] or 1)
            parts = None if failure_list.handler is not None else self._take_apart(fields)
            if parts is not None and parts.body is not None:
                found += len(parts.erased)
                erased += 0 if dry_run else self._rewrite(failure_id, fields, parts, parts.body)
            else:
                found += number
                erased += 0 if dry_run else self._drop(failure_list, failure_id, number)
        return StoreResult(
            store=self.name,
            found=found,
            erased=erased,
            left=0 if dry_run else found - erased,
            unreadable=len(not_read),
            why=not_read.why,
        )

    def export(self) -> Iterator[FoundItem]:
        """Yield each failure that mentions a number; of a bundle, only those records.

        Raise StoreUnreadable, after the last one.
        """
        not_read = NotRead("failure")
        for failure_list, failure_id, fields in self._iterate(not_read):
            content = {name: value.decode(errors="replace") for name, value in fields.items() if value}
            parts = None if failure_list.handler is not None else self._take_apart(fields)
            if parts is not None:
                content["body"] = "\n".join(parts.erased)
            yield FoundItem(where=f"{failure_list.name}, {failure_id}", until=_UNTIL, content=content)
        if not_read:
            raise StoreUnreadable(not_read.why)

    def _iterate(self, not_read: NotRead) -> Iterator[tuple[FailureList, str, Mapping[str, bytes | None]]]:
        """Yield what mentions a number. What cannot be opened may mention it, and is counted in `not_read`."""
        for failure_list in all_lists(self._connection):
            for ids in self._pages(failure_list):
                for batch in self._store.read_batches(failure_list, ids):
                    for failure_id, values in store.read_fields(self._connection, failure_list, batch, _NAMES):
                        fields = dict(zip(_NAMES, values, strict=True))
                        why = _why_unopened(fields)
                        if why is not None:
                            not_read.add(why)
                        elif self._mentions(fields):
                            yield failure_list, failure_id, fields

    def _pages(self, failure_list: FailureList) -> Iterator[list[str]]:
        cursor: Cursor | None = None
        while members := self._reader.read_members(failure_list.index, after=cursor, limit=_READ_SIZE):
            yield [member.item_id for member in members]
            cursor = members[-1]

    def _mentions(self, fields: Mapping[str, bytes | None]) -> bool:
        texts = [fields[name] or b"" for name in _SEARCHED]
        body = fields["body"]
        if body:
            texts += (body, *plain_forms(body, _headers(fields)))
        return any(map(self._search.find_in_bytes, texts))

    def _take_apart(self, fields: Mapping[str, bytes | None]) -> record_bodies.BodyParts | None:
        """Return the parts of a body, in UTF-8; None if the number is outside it, or it is in a form that nobody reads.

        What stays of it is kept plain: a body that begins as JSON is read as it is, whatever its headers say.
        """
        parts = None
        if any(self._search.find_in_bytes(fields[name] or b"") for name in _SEARCHED):
            return parts
        source, received_ms = as_text(fields["source"] or b""), int(fields["received_ms"] or 0)
        for body in plain_forms(fields["body"] or b"", _headers(fields)):
            with suppress(UnicodeDecodeError):
                accepted = Accepted("status", source, received_ms, int(fields["records"] or 1), body.decode())
                if self._search.find_in(accepted.body):
                    parts = record_bodies.take_apart(accepted, self._search, any_number=True)
            if parts is not None and parts.body is not None:
                break
        return parts

    def _rewrite(
        self, failure_id: str, fields: Mapping[str, bytes | None], parts: record_bodies.BodyParts, body: str
    ) -> int:
        kind = batches.counted_kind(msgspec.convert(as_text(fields["kind"] or b"") or None, Any))
        number, counted = len(parts.erased), int(fields["records"] or 1)
        # What was quarantined whole may count as one, whatever it holds. It still does, as some of it stays.
        is_counted_each = counted == number + parts.kept
        kept, uncounted = (parts.kept, number) if is_counted_each else (counted, 0)
        key = keys.quarantined(failure_id)
        stored, plain = self._connection.hmget(key, "body", failure_fields.PLAIN)
        if failure_fields.unseal(key, ["body"], [stored], plain) != [fields["body"]]:
            return 0
        digest = hashlib.sha1(stored or b"").hexdigest()  # noqa: S324 # as Lua has it
        written = failure_fields.seal(key, {"body": body})["body"]
        names = [key, keys.failures_bytes(keys.QUARANTINE), keys.COUNTS]
        counters = (keys.counter(kind, "quarantined"), keys.counter(kind, "forgotten"))
        return number * int(self._script(keys=names, args=[digest, written, kept, uncounted, *counters]))

    def _drop(self, failure_list: FailureList, failure_id: str, number: int) -> int:
        (dropped,) = self._store.drop(_counted_as_forgotten(failure_list), [failure_id])
        return number * dropped.done


def _why_unopened(fields: Mapping[str, bytes | None]) -> bytes | None:
    """Return why some of a failure cannot be read now, so that it may mention any number; None if all of it can be."""
    unopened = next((value for value in fields.values() if isinstance(value, Unopened)), None)
    if unopened is not None:
        return unopened
    # A job or an event is kept as JSON in UTF-8, and its sealed parts as they are if not all of them open.
    event, body = fields["event"] or b"", fields["body"] or b""
    jobs = (event, body) if queues.is_expand_job(body) else (event,)
    return _DAMAGED if any(map(sealed_data.has_damaged, jobs)) else None


def _counted_as_forgotten(failure_list: FailureList) -> FailureList:
    counters = tuple(
        (kind, falls, rises.replace("dropped", "forgotten", 1)) for kind, falls, rises in failure_list.drop_counters
    )
    return msgspec.structs.replace(failure_list, drop_counters=counters)


def _headers(fields: Mapping[str, bytes | None]) -> dict[str, str]:
    return msgspec.json.decode(fields["headers"] or b"{}", type=dict[str, str])
