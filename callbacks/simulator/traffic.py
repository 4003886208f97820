"""What happens to the messages of a campaign, before any of it is told: statuses and replies, with their times.

Pure: all chance comes from the generator passed in. Message ids are unique and each message has a
status at most once, so no two reports here have the same natural key.
"""

import random
import uuid
from collections.abc import Iterator, Sequence
from datetime import timedelta

from msgspec import UNSET, Struct, UnsetType

from callbacks.simulator.options import CampaignOptions
from callbacks.simulator.payloads import Channel, ReplyBody, ReplyMessage, Report, Status

SPAN = timedelta(minutes=30)
"""Everything happens within this time of the start."""

# Milliseconds. Together they stay below SPAN.
_JOBS_BEGIN_WITHIN = 60_000
_ACCEPTED_WITHIN = 2_000
_DELIVERED_WITHIN = 120_000
_SEEN_WITHIN = 600_000
_REPLIED_WITHIN = 900_000

_JOB_DESTINATIONS = (50, 500)
_MESSAGE_IDS = range(10_000_000_000_000_000_000, 18_000_000_000_000_000_000)  # all beyond 2**63
_NAMED = 0.5  # share of jobs whose messages have a client_message_id
_ON_VIBER_UNASKED = 0.5  # share of messages sent by Viber among those that could as well go by SMS
_REPLIES_NAMING_ORIGINAL = 0.9  # orig_message_id is optional
_COUNTRY_CODE = "999"  # assigned to nobody: no simulated number can be somebody's
_SUBSCRIBERS = range(100_000_000, 1_000_000_000)
_SENDERS = ("Fortytwo", "42", "35699000042")
_FAILURES: tuple[tuple[Status, int], ...] = (("UNDELIV", 11), ("EXPIRED", 943), ("REJECTD", 69))
_TEXTS = (
    "Yes please",
    "STOP",
    "\U0001f44d\U0001f3fd \U0001f468\u200d\U0001f469\u200d\U0001f467 \U0001f1f2\U0001f1f9",  # joined emoji, a flag
    "\u05e9\u05dc\u05d5\u05dd, \u0645\u0631\u062d\u0628\u0627 42!",  # right to left, digits left to right
    'She said "no \\ never"',
    "z\u0361a\u0301l\u0323go\nsecond line\ttab",  # combining marks, control characters
    "long \u2026 " * 400,
)


class SendRequestReports(Struct, frozen=True, kw_only=True):
    """What became of one send request; its reports in order of time."""

    api_job_id: str
    client_job_id: str | UnsetType
    reports: tuple[Report, ...]


class Traffic(Struct, frozen=True):
    """Everything that happened."""

    jobs: tuple[SendRequestReports, ...]
    replies: tuple[ReplyBody, ...]


class _MessageOutcome(Struct, frozen=True, kw_only=True):
    failure: tuple[Status, int] | None
    seen: bool
    replies: int


class _SendRequest(Struct, frozen=True, kw_only=True):
    """The send request that a message belongs to."""

    begins_ms: int
    api_job_id: str
    client_job_id: str | UnsetType
    sender: str
    names_messages: bool


def generate_traffic(options: CampaignOptions, *, rng: random.Random, start_ms: int) -> Traffic:
    """Return what happens to `options.destinations` messages within SPAN of `start_ms` (Unix milliseconds)."""
    ids = map(str, rng.sample(_MESSAGE_IDS, options.destinations + options.replies))
    numbers = rng.sample(_SUBSCRIBERS, options.destinations)
    outcomes = _message_outcomes(options, rng)
    jobs: list[SendRequestReports] = []
    replies: list[ReplyBody] = []
    for job_number, members in enumerate(_jobs(options.destinations, rng), start=1):
        request = _SendRequest(
            begins_ms=start_ms + rng.randrange(_JOBS_BEGIN_WITHIN),
            api_job_id=random_uuid(rng),
            client_job_id=rng.choice((UNSET, "", f"job-{job_number}", f"Été {job_number} \U0001f31e")),
            sender=rng.choice(_SENDERS),
            names_messages=rng.random() < _NAMED,
        )
        reports: list[Report] = []
        for member in members:
            recipient = f"{_COUNTRY_CODE}{numbers[member]}"
            message_reports = _message_reports(
                outcomes[member],
                request,
                message_id=next(ids),
                recipient=recipient,
                client_message_id=f"message-{member}" if request.names_messages else UNSET,
                rng=rng,
            )
            reports += message_reports
            for _ in range(outcomes[member].replies):
                replies.append(_reply_body(request, message_reports[1], next(ids), len(replies), rng))
        reports.sort(key=lambda report: report.micro_timestamp)
        jobs.append(
            SendRequestReports(
                api_job_id=request.api_job_id, client_job_id=request.client_job_id, reports=tuple(reports)
            )
        )
    return Traffic(tuple(jobs), tuple(replies))


def random_uuid(rng: random.Random) -> str:
    """Return a version 4 UUID in text that only `chance` decides."""
    return str(uuid.UUID(int=rng.getrandbits(128), version=4))


def _message_outcomes(options: CampaignOptions, rng: random.Random) -> list[_MessageOutcome]:
    """Share out the outcomes in exact numbers, so that a plan's counts follow from its options alone."""
    destinations = rng.sample(range(options.destinations), options.destinations)
    seen_count = round(options.seen * options.destinations)
    failed_count = min(round(options.undelivered * options.destinations), options.destinations - seen_count)
    seen, failed = set(destinations[:seen_count]), set(destinations[seen_count : seen_count + failed_count])
    # Who got nothing has nothing to reply to, unless nobody got anything.
    delivered = destinations[:seen_count] + destinations[seen_count + failed_count :] or destinations
    replies = [0] * options.destinations
    for replier in rng.choices(delivered, k=options.replies):
        replies[replier] += 1
    return [
        _MessageOutcome(
            failure=rng.choice(_FAILURES) if member in failed else None,
            seen=member in seen,
            replies=replies[member],
        )
        for member in range(options.destinations)
    ]


def _jobs(destinations: int, rng: random.Random) -> Iterator[Sequence[int]]:
    begin = 0
    while begin < destinations:
        end = min(begin + rng.randint(*_JOB_DESTINATIONS), destinations)
        yield range(begin, end)
        begin = end


def _message_reports(
    outcome: _MessageOutcome,
    request: _SendRequest,
    *,
    message_id: str,
    recipient: str,
    client_message_id: str | UnsetType,
    rng: random.Random,
) -> list[Report]:
    # Seen and replied to is possible on Viber alone.
    on_viber = outcome.seen or outcome.replies or rng.random() < _ON_VIBER_UNASKED
    channel: Channel = "VIBER" if on_viber else "SMS"
    status, error_code = outcome.failure or ("DELIVRD", 0)
    accepted_ms = request.begins_ms + rng.randrange(_ACCEPTED_WITHIN)
    ended_ms = accepted_ms + rng.randrange(1, _DELIVERED_WITHIN)
    seen_ms = ended_ms + rng.randrange(1, _SEEN_WITHIN)
    changes: list[tuple[Channel, Status, int, int]] = [
        ("INTERNAL", "ACCEPTD", accepted_ms, 0),
        (channel, status, ended_ms, error_code),
    ]
    if outcome.seen:
        changes.append(("VIBER", "SEEN", seen_ms, 0))
    return [
        Report(
            channel=where,
            message_id=message_id,
            status=what,
            timestamp=at_ms // 1000,
            micro_timestamp=at_ms,
            recipient=recipient,
            sender=request.sender,
            client_message_id=client_message_id,
            error_code=code,
        )
        for where, what, at_ms, code in changes
    ]


def _reply_body(
    request: _SendRequest, answered: Report, reply_message_id: str, number: int, rng: random.Random
) -> ReplyBody:
    # In turn rather than by chance: the first replies already show every text, and one without.
    turn = number % (len(_TEXTS) + 1)
    at_ms = answered.micro_timestamp + rng.randrange(1, _REPLIED_WITHIN)
    return ReplyBody(
        api_job_id=request.api_job_id,
        client_job_id=request.client_job_id,
        reply_message_id=reply_message_id,
        orig_message_id=answered.message_id if rng.random() < _REPLIES_NAMING_ORIGINAL else UNSET,
        req_uuid=random_uuid(rng),
        timestamp=at_ms // 1000,
        micro_timestamp=at_ms,
        sender=answered.recipient,
        recipient=request.sender,
        message=ReplyMessage(text=_TEXTS[turn] if turn < len(_TEXTS) else UNSET),
    )
