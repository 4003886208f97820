"""The simulator writes oddly as the senders of the conformance set do, and knows what a receiver reads of it."""

import random
from collections import Counter
from datetime import UTC, datetime
from typing import Final

import pytest

from callbacks.cli import body_check
from callbacks.cli.body_check import BodyAnswer, ReadRecord
from callbacks.simulator.callback import PlannedCallback
from callbacks.simulator.campaign import Campaign, plan
from callbacks.simulator.oddities import ODDITIES, Oddity, OddWriter
from callbacks.simulator.options import CampaignOptions
from shared import events
from shared.schema import Kind
from tests import payload_cases

START: Final = datetime(2015, 9, 25, 7, 12, 54, 145_000, tzinfo=UTC)
OPTIONS: Final = CampaignOptions(destinations=250, bundle=(1, 4), replies=80, duplicates=0, reply_retries=0, odd=1)
CASES: Final = {case.name: case for case in payload_cases.load() if not case.name.startswith(("identity/", "refused/"))}


def odd_campaign() -> Campaign:
    return plan(OPTIONS, start_at=START)


def answer(callback: PlannedCallback, *, attempt: int = 0) -> BodyAnswer:
    """Return the service's answer, as `callbacks check` says it."""
    headers = [(name.lower().encode(), value.encode()) for name, value in callback.headers.items()]
    kinds: dict[str, Kind] = {"status": "reply", "reply": "status"}
    kind: Kind | None = kinds[callback.kind] if callback.url_form == "other kind" else callback.kind
    return body_check.answer(
        callback.bodies[attempt].data,
        headers,
        None if callback.url_form == "no kind" else kind,
        max_body_bytes=4 << 20,
    )


def read(callback: PlannedCallback, *, attempt: int = 0) -> list[ReadRecord]:
    """Return the records of an accepted callback."""
    answered = answer(callback, attempt=attempt)
    assert (answered.status, answered.kept) == (200, "accepted"), (callback.oddity, answered.document)
    return list(body_check.read_records(answered))


def test_each_case_that_becomes_events_is_an_oddity_and_each_oddity_a_case() -> None:
    assert Counter(oddity.name for oddity in ODDITIES) == Counter(CASES.keys())


def test_all_oddities_come_up_in_a_campaign_and_every_callback_of_it_becomes_the_events_of_its_keys() -> None:
    campaign = odd_campaign()

    assert {callback.oddity for callback in campaign.callbacks} == CASES.keys()
    for callback in campaign.callbacks:
        for attempt in {0, len(callback.bodies) - 1} if callback.kind == "reply" else {0}:
            body = callback.bodies[attempt]
            expected = [events.report_id(body_check.SOURCE, *key) for key in body.reports]
            expected += [events.reply_id(body_check.SOURCE, reply) for reply, _ in body.replies]
            found = [record.event.id if record.event else record.error for record in read(callback, attempt=attempt)]
            assert found == expected, (callback.oddity, body.data)


def test_no_two_odd_reports_share_a_natural_key() -> None:
    campaign = odd_campaign()
    keys = [key for callback in campaign.callbacks for key in callback.bodies[0].reports]

    assert len(keys) == len(set(keys)) == campaign.reports


@pytest.mark.parametrize("oddity", ODDITIES, ids=lambda oddity: oddity.name)
def test_what_cannot_be_read_of_an_oddity_is_what_cannot_be_read_of_its_case(oddity: Oddity) -> None:
    callbacks = plan(CampaignOptions(destinations=100, bundle=(1, 1), duplicates=0), start_at=START).callbacks
    written = (oddity.write(callback, 0) for callback in callbacks if oddity.kind in {None, callback.kind})
    [record] = read(next(callback for callback in written if callback is not None))

    assert {frozenset(record.unreadable)} == {frozenset(expected.unreadable) for expected in CASES[oddity.name].events}


def test_a_share_of_the_callbacks_is_odd_and_the_others_are_the_same_as_without() -> None:
    options = CampaignOptions(destinations=250, duplicates=0.3)
    plain = plan(options, start_at=START).callbacks
    odd = plan(CampaignOptions(destinations=250, duplicates=0.3, odd=0.25), start_at=START).callbacks

    originals = [callback for callback in odd if not callback.repeat and callback.oddity]
    assert len(originals) == round(0.25 * sum(not callback.repeat for callback in plain))
    assert len(odd) == len(plain)
    assert all(now.oddity or now == before for now, before in zip(odd, plain, strict=True))
    assert {callback.oddity for callback in odd if callback.repeat} > {""}, "an odd callback is repeated as it was"


def test_the_same_seed_writes_the_same_bytes() -> None:
    assert odd_campaign() == odd_campaign()


def test_a_callback_that_a_way_is_not_possible_for_is_written_in_the_next() -> None:
    callbacks = plan(CampaignOptions(destinations=40, bundle=(5, 5), duplicates=0), start_at=START).callbacks
    writer = OddWriter(random.Random(1))
    odd = [writer.write(callback) for callback in callbacks for _ in range(20) if callback.kind == "status"]

    assert "shapes/one-record" not in {callback.oddity for callback in odd if len(callback.bodies[0].reports) > 1}
    assert all(callback.oddity for callback in odd)
