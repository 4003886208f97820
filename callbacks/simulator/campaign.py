"""What is sent, and in which order: bundles, repeats, and callbacks out of order.

Deterministic: the same options and start give the same bytes in the same order. Everything is encoded here, before the
clock of a run starts.
"""

import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import TypeAlias

import msgspec
from msgspec import Struct

from callbacks.simulator.callback import ATTEMPTS, PlannedCallback, reply_callback, status_callback
from callbacks.simulator.errors import InvalidOption
from callbacks.simulator.oddities import OddWriter
from callbacks.simulator.options import CampaignOptions
from callbacks.simulator.payloads import ReplyBody, Report, StatusBody
from callbacks.simulator.traffic import generate_traffic, random_uuid

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# Repeats follow within this many callbacks, so that some arrive while their original is in progress.
_REPEATED_WITHIN = 50.0
# A callback out of order moves by up to a quarter of the campaign, in a small one by up to eight places.
_MOVED_WITHIN = 0.25
_MIN_MOVED_WITHIN = 8.0

_Position: TypeAlias = tuple[float, PlannedCallback]


class Campaign(Struct, frozen=True):
    """Callbacks in sending order, repeats included, and the number of distinct events in them."""

    callbacks: tuple[PlannedCallback, ...]
    reports: int
    replies: int


def plan(options: CampaignOptions, *, start_at: datetime) -> Campaign:
    """Return the campaign whose events occur within `traffic.SPAN` of `start_at`.

    Another start gives other ids, so that a second campaign with the same seed is not a repeat of the first. Raise
    InvalidOption if `start_at` has no time zone.
    """
    if start_at.tzinfo is None:
        raise InvalidOption("start_at", start_at.isoformat(), "must have a time zone")
    start_ms = (start_at - _EPOCH) // timedelta(milliseconds=1)
    rng = random.Random(f"{options.seed}/{start_ms}")  # noqa: S311 - reproducible, not secret
    traffic = generate_traffic(options, rng=rng, start_ms=start_ms)

    bodies: list[StatusBody | ReplyBody] = [
        StatusBody(api_job_id=job.api_job_id, client_job_id=job.client_job_id, data=bundle)
        for job in traffic.jobs
        for bundle in _bundles(job.reports, options.bundle, rng)
    ]
    bodies += traffic.replies
    bodies.sort(key=_send_ms)
    # Its own generator, so that the same seed sends the same campaign with and without odd callbacks.
    odd_rng = random.Random(f"{options.seed}/{start_ms}/odd")  # noqa: S311
    slots = _originals(bodies, options, rng, odd_rng)
    slots += _repeats(slots, options, rng) + _reply_retries(slots, bodies, options, rng)
    slots.sort(key=lambda slot: slot[0])
    return Campaign(
        callbacks=tuple(callback for _, callback in slots),
        reports=sum(len(job.reports) for job in traffic.jobs),
        replies=len(traffic.replies),
    )


def _bundles(reports: tuple[Report, ...], bundle: tuple[int, int], rng: random.Random) -> Iterator[tuple[Report, ...]]:
    begin = 0
    while begin < len(reports):
        end = begin + rng.randint(*bundle)
        yield reports[begin:end]
        begin = end


def _send_ms(body: StatusBody | ReplyBody) -> int:
    # A bundle is sent after its last report.
    return body.data[-1].micro_timestamp if isinstance(body, StatusBody) else body.micro_timestamp


def _originals(
    bodies: list[StatusBody | ReplyBody], options: CampaignOptions, rng: random.Random, odd_rng: random.Random
) -> list[_Position]:
    moved = set(_share(len(bodies), options.out_of_order, rng))
    odd = set(_share(len(bodies), options.odd, odd_rng))
    reach = max(_MIN_MOVED_WITHIN, _MOVED_WITHIN * len(bodies))
    writer = OddWriter(odd_rng)
    slots: list[_Position] = []
    for index, body in enumerate(bodies):
        position = float(index)
        if index in moved:
            position += rng.uniform(-reach, reach)
        if isinstance(body, ReplyBody):
            callback = reply_callback(body, req_uuids=_req_uuids(rng))
        else:
            data = body.data if index not in moved else tuple(rng.sample(body.data, len(body.data)))
            callback = status_callback(msgspec.structs.replace(body, data=data))
        slots.append((position, writer.write(callback) if index in odd else callback))
    return slots


def _repeats(originals: list[_Position], options: CampaignOptions, rng: random.Random) -> list[_Position]:
    """Send the same callbacks again, byte for byte."""
    return [
        (_later(originals[index][0], rng), msgspec.structs.replace(originals[index][1], repeat=True))
        for index in _share(len(originals), options.duplicates, rng)
    ]


def _reply_retries(
    originals: list[_Position],
    bodies: list[StatusBody | ReplyBody],
    options: CampaignOptions,
    rng: random.Random,
) -> list[_Position]:
    """Send the same replies again with a new req_uuid, as if the gateway had missed our 200."""
    replies = [(slot[0], body) for slot, body in zip(originals, bodies, strict=True) if isinstance(body, ReplyBody)]
    return [
        (
            _later(replies[index][0], rng),
            reply_callback(replies[index][1], req_uuids=_req_uuids(rng), repeat=True),
        )
        for index in _share(len(replies), options.reply_retries, rng)
    ]


def _later(position: float, rng: random.Random) -> float:
    return position + 0.5 + rng.random() * _REPEATED_WITHIN


def _share(count: int, share: float, rng: random.Random) -> list[int]:
    return rng.sample(range(count), round(share * count))


def _req_uuids(rng: random.Random) -> tuple[str, ...]:
    return tuple(random_uuid(rng) for _ in range(ATTEMPTS))
