"""Callbacks become events: each batch is read, told apart into new and known, and handed to the handlers' queues.

Promises that a batch changes everything together or nothing (I2): what was read is committed about a thousand
events at a time, and each commit moves the progress of the batches it came from. Knows nothing of how handlers work.
"""

import logging
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Final

import msgspec

from shared import batches, events, keys, queues, wire
from shared.errors import NotDocumented, NotJson
from workers.declaration import Handler
from workers.running.expand_spans import ExpandSpans
from workers.running.rq_worker import Unfinished
from workers.running.settlements import MOST_DEATHS, Delivery, Item, Offer, Portion, SetAside, Settlement
from workers.running.settling import Steps

log = logging.getLogger("callbacks.expand")

# Redis runs a script alone: a thousand events keep everybody else waiting for some 10 ms.
EVENTS_A_COMMIT: Final = 1000
# Far below the 512 MB that Redis takes for one argument, and what a client may have in its buffer.
BYTES_A_COMMIT: Final = 4 << 20
# What one run takes along. RQ spends about 7 ms on a job whatever is in it; this is a second's work at the most.
TAKE_ITEMS: Final = 10_000
TAKE_BYTES: Final = 8 << 20
# Small enough that several processes share one handler's work, large enough that RQ's cost for a job is spread.
EVENTS_A_DELIVERY: Final = 100
_MOST_MASKS: Final = 4096


class Expansion:
    """Reads batches and fans out their events to `handlers`, in that order, over one connection."""

    def __init__(
        self, *, steps: Steps, handlers: Sequence[Handler], dedupe_seconds: int, spans: ExpandSpans | None = None
    ) -> None:
        self._steps = steps
        self._handlers = tuple(handlers)
        self._dedupe_seconds = dedupe_seconds
        self._masks: dict[tuple[object, ...], str] = {}
        self._spans = spans
        self._kept: type[list[batches.Kept] | list[batches.Traced]] = list[batches.Kept]
        self._reading: Callable[[batches.Kept], list[Item]] = self._read
        if spans is not None:
            self._kept, self._reading = list[batches.Traced], spans.reading(self._read)
        # While Redis carries out one commit, the next is made ready: each takes about as long as the other.
        self._committing = ThreadPoolExecutor(1, thread_name_prefix="commit")

    def run(self, *, job_id: str, arguments: Sequence[Any]) -> None:
        """Expand the running job's batch, and those waiting behind it.

        Raises StaleRun if another worker has gone on with the job, and redis.RedisError; both leave what is not
        committed to the job's next run.
        """
        portions = self._steps.take(
            queue=queues.EXPAND,
            job_id=job_id,
            own_arguments=arguments,
            most_items=TAKE_ITEMS,
            most_bytes=TAKE_BYTES,
        )
        deaths = portions[0].deaths
        if self._spans is not None:
            self._spans.begin()
        pending = _Commit()
        under_way: Future[None] | None = None
        try:
            for portion in portions:
                start = done = int(portion.progress)
                for item in self._items(portion, deaths=0 if portion.taken else deaths):
                    done += pending.add(item)
                    # Once a worker has died of it, each item is settled before the next is read: it shows which.
                    if deaths or pending.is_full:
                        pending.settle(portion, start, done)
                        under_way = self._commit_after(under_way, job_id, pending)
                        if deaths:
                            under_way.result()
                        pending, start = _Commit(), done
                pending.settle(portion, start, done, ends=True)
            under_way = self._commit_after(under_way, job_id, pending)
        finally:
            # Whatever happens: nothing of this run is still on its way when it ends.
            try:
                if under_way is not None:
                    under_way.result()
            finally:
                if self._spans is not None:
                    self._spans.end()

    def _commit_after(self, earlier: Future[None] | None, job_id: str, pending: "_Commit") -> Future[None]:
        """Begin a commit when the one before it is done, as it goes on where that one ends; raise what that raised."""
        if earlier is not None:
            earlier.result()
        return self._committing.submit(self._commit, job_id, pending)

    def _commit(self, job_id: str, pending: "_Commit") -> None:
        if not pending.settlements:
            return
        if not self._steps.wait_for_room():
            raise Unfinished
        most = -(-len(pending.offered) // EVENTS_A_DELIVERY)
        fanned_out = self._steps.fan_out(
            run_id=job_id,
            settlements=pending.settlements,
            mark_seconds=self._dedupe_seconds,
            deliveries=[
                Delivery(handler.name, EVENTS_A_DELIVERY, tuple(queues.new_id() for _ in range(most)))
                for handler in self._handlers
            ],
            events=pending.offered,
            unreadable=pending.unreadable,
        )
        log.debug(
            "action=fan_out new=%d duplicate=%d quarantined=%d job=%s",
            fanned_out.new,
            fanned_out.duplicate,
            sum(entry.records for entry in pending.unreadable),
            job_id,
        )
        if self._spans is not None:
            self._spans.committed(fanned_out.groups, pending.unreadable)

    def _items(self, portion: Portion, *, deaths: int) -> Iterator[Item]:
        """Read a batch's callbacks, in order, without the items that an earlier run has settled.

        If `deaths` workers died of the first of them that is not settled, it is set aside unread, and that is the end
        of the matter: the failure ladder's last rung.
        """
        _version, callbacks = portion.arguments
        skip = int(portion.progress)
        for kept in msgspec.convert(callbacks, self._kept):
            if skip >= kept.records:
                skip -= kept.records
                continue
            if deaths >= MOST_DEATHS:
                deaths, left = 0, kept.records - skip
                error = f"{MOST_DEATHS} workers died while they read it"
                yield _unreadable(kept, error, kept.body.encode(), records=left)
                skip = 0
                continue
            items = self._reading(kept)
            while skip > 0:
                skip -= _records(items.pop(0))
            yield from items

    def _read(self, kept: batches.Kept) -> list[Item]:
        body = kept.body.encode()
        try:
            callback = wire.read(body, kept.kind)
        except (NotJson, NotDocumented) as exc:
            # The web process looks only as far as it must; whatever it let pass is set aside here, whole.
            return [_unreadable(kept, str(exc), body, records=kept.records)]
        received_at = events.time_of(kept.received_ms)
        items: list[Item] = [
            self._offer(event) for event in events.of(callback, source=kept.source, received_at=received_at)
        ]
        if callback.faults:
            error = "; ".join(wire.summary(callback.faults))
            items.append(_unreadable(kept, error, callback.unreadable, records=len(callback.faults)))
        return items

    def _offer(self, event: events.Event) -> Offer:
        marks: tuple[str, ...] = (event.id,)
        if event.kind == "reply" and event.req_uuid is not None:
            marks += (events.request_id(event.req_uuid),)
        return Offer(event.kind, marks, self._mask(event), events.encode(event))

    def _mask(self, event: events.Event) -> str:
        # All that a handler's filters look at; a campaign's events differ in little of it.
        traits: tuple[object, ...]
        if event.kind == "report":
            traits = (event.source, event.channel, event.status, event.is_final)
        else:
            traits = (event.source, event.channel)
        mask = self._masks.get(traits)
        if mask is None:
            mask = "".join("1" if handler.wants(event) else "0" for handler in self._handlers)
            if len(self._masks) >= _MOST_MASKS:  # statuses and channels are the sender's words
                self._masks.clear()
            self._masks[traits] = mask
        return mask


class _Commit:
    """What goes into one atomic step."""

    def __init__(self) -> None:
        self.settlements: list[Settlement] = []
        self.offered: list[Offer] = []
        self.unreadable: list[SetAside] = []
        self._items = 0
        self._bytes = 0

    @property
    def is_full(self) -> bool:
        return self._items >= EVENTS_A_COMMIT or self._bytes >= BYTES_A_COMMIT

    def add(self, item: Item) -> int:
        """Give how many records that settles."""
        self._items += 1
        if isinstance(item, SetAside):
            self.unreadable.append(item)
            return item.records
        self.offered.append(item)
        self._bytes += len(item.event)
        return 1

    def settle(self, portion: Portion, start: int, done: int, *, ends: bool = False) -> None:
        """Say that the items of `portion` from `start` to `done` are in this step, and whether there are no more."""
        if done > start or (ends and portion.taken):
            self.settlements.append(Settlement(portion, str(start), str(done), ends=ends))


def _records(item: Item) -> int:
    return item.records if isinstance(item, SetAside) else 1


def _unreadable(kept: batches.Kept, error: str, body: bytes, *, records: int) -> SetAside:
    entry_id, fields = batches.quarantine_entry(
        batches.Quarantined(
            kind=kept.kind,
            source=kept.source,
            received_ms=kept.received_ms,
            error=error,
            body=body,
            records=records,
        )
    )
    return SetAside(
        key=keys.quarantined(entry_id),
        entry_id=entry_id,
        time_ms=kept.received_ms,
        lifetime_seconds=keys.SET_ASIDE_EXPIRY_SECONDS,
        fields=fields,
        kind=batches.counted(kept.kind),
        records=records,
    )
