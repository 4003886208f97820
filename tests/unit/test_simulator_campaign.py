"""A campaign is planned as the specification's tables say, in exact numbers, and the same way every time."""

import json
import re
from collections import Counter
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from callbacks.simulator.campaign import Campaign, plan
from callbacks.simulator.errors import InvalidOption
from callbacks.simulator.options import CampaignOptions
from callbacks.simulator.traffic import SPAN

START = datetime(2015, 9, 25, 7, 12, 54, 145_000, tzinfo=UTC)
START_MS = 1_443_165_174_145

PLAIN = CampaignOptions(destinations=200, duplicates=0, out_of_order=0, reply_retries=0, replies=20)

OPTIONS = st.builds(
    CampaignOptions,
    destinations=st.integers(1, 150),
    bundle=st.tuples(st.integers(1, 5), st.integers(5, 30)),
    duplicates=st.floats(0, 1),
    out_of_order=st.floats(0, 1),
    seen=st.floats(0, 1),
    undelivered=st.floats(0, 1),
    replies=st.integers(0, 40),
    reply_retries=st.floats(0, 1),
    seed=st.integers(),
)


def bodies(campaign: Campaign, kind: str) -> list[dict[str, Any]]:
    return [json.loads(callback.bodies[0].data) for callback in campaign.callbacks if callback.kind == kind]


def reports(campaign: Campaign) -> list[dict[str, Any]]:
    return [report for body in bodies(campaign, "status") for report in body["data"]]


def test_the_same_seed_and_start_give_the_same_campaign() -> None:
    options = CampaignOptions(seed=7)
    assert plan(options, start_at=START) == plan(options, start_at=START)


def test_another_seed_or_another_start_gives_other_ids() -> None:
    first = {report["message_id"] for report in reports(plan(PLAIN, start_at=START))}
    other_seed = plan(CampaignOptions(destinations=200, seed=1), start_at=START)
    other_start = plan(PLAIN, start_at=START.replace(second=55))
    assert first.isdisjoint(report["message_id"] for report in reports(other_seed))
    assert first.isdisjoint(report["message_id"] for report in reports(other_start))


def test_a_start_without_time_zone_is_refused() -> None:
    with pytest.raises(InvalidOption, match="start_at=2015-09-25T07:12:54: must have a time zone"):
        plan(PLAIN, start_at=datetime(2015, 9, 25, 7, 12, 54))  # noqa: DTZ001


def test_each_destination_gets_one_message_with_accepted_and_one_outcome_and_its_share_of_seen() -> None:
    campaign = plan(CampaignOptions(destinations=1000, duplicates=0, seen=0.6, undelivered=0.03), start_at=START)
    statuses = Counter(report["status"] for report in reports(campaign))
    failed = statuses["UNDELIV"] + statuses["EXPIRED"] + statuses["REJECTD"]
    assert (statuses["ACCEPTD"], statuses["DELIVRD"], failed, statuses["SEEN"]) == (1000, 970, 30, 600)
    assert campaign.reports == 2600
    assert len({report["to"] for report in reports(campaign)}) == 1000
    assert len({report["message_id"] for report in reports(campaign)}) == 1000


def test_every_failure_of_the_plan_occurs() -> None:
    campaign = plan(CampaignOptions(destinations=100, seen=0, undelivered=1, replies=3), start_at=START)
    assert {report["status"] for report in reports(campaign)} == {"ACCEPTD", "UNDELIV", "EXPIRED", "REJECTD"}
    assert campaign.replies == 3


def test_a_status_callback_has_the_keys_of_the_specification() -> None:
    for body in bodies(plan(PLAIN, start_at=START), "status"):
        assert set(body) - {"client_job_id"} == {"api_job_id", "data"}
        assert str(UUID(body["api_job_id"])) == body["api_job_id"]
        assert isinstance(body.get("client_job_id", ""), str)
        for report in body["data"]:
            assert set(report) - {"client_message_id"} == {
                "type", "message_id", "status", "timestamp", "micro_timestamp", "to", "from", "error_code",
            }  # fmt: skip
            assert int(report["message_id"]) > 2**63
            assert re.fullmatch(r"[1-9]\d{6,14}", report["to"])
            assert report["timestamp"] == report["micro_timestamp"] // 1000


def test_the_channel_and_the_error_code_follow_from_the_status() -> None:
    delivered = Counter[str]()
    for report in reports(plan(PLAIN, start_at=START)):
        match report["status"]:
            case "ACCEPTD":
                assert (report["type"], report["error_code"]) == ("INTERNAL", 0)
            case "DELIVRD":
                assert report["error_code"] == 0
                delivered[report["type"]] += 1
            case "SEEN":
                assert (report["type"], report["error_code"]) == ("VIBER", 0)
            case "UNDELIV" | "EXPIRED" | "REJECTD":
                assert report["type"] in {"SMS", "VIBER"}
                assert report["error_code"] != 0
            case unexpected:
                pytest.fail(unexpected)
    assert set(delivered) == {"SMS", "VIBER"}


def test_optional_keys_come_present_absent_and_empty() -> None:
    campaign = plan(CampaignOptions(destinations=10_000), start_at=START)
    job_ids = {body.get("client_job_id") for body in bodies(campaign, "status")}
    assert {None, ""} < job_ids
    assert {"client_message_id" in report for report in reports(campaign)} == {True, False}
    assert {"orig_message_id" in reply for reply in bodies(campaign, "reply")} == {True, False}


def test_a_bundle_holds_reports_of_one_job_and_no_more_than_told() -> None:
    campaign = plan(CampaignOptions(destinations=500, bundle=(3, 7), duplicates=0), start_at=START)
    sizes = Counter[int]()
    job_of: dict[str, str] = {}
    for body in bodies(campaign, "status"):
        sizes[len(body["data"])] += 1
        for report in body["data"]:
            assert job_of.setdefault(report["message_id"], body["api_job_id"]) == body["api_job_id"]
    jobs = len(set(job_of.values()))
    assert max(sizes) == 7
    assert sizes[1] + sizes[2] <= jobs, "only the last bundle of a job may be smaller"


def test_without_disorder_callbacks_come_in_order_of_time_and_each_message_tells_its_story_in_order() -> None:
    campaign = plan(PLAIN, start_at=START)
    order = {"ACCEPTD": 1, "UNDELIV": 2, "EXPIRED": 2, "REJECTD": 2, "DELIVRD": 3, "SEEN": 4}
    last_reports: dict[str, tuple[int, int]] = {}
    for report in reports(campaign):
        now = (order[report["status"]], report["micro_timestamp"])
        before = last_reports.setdefault(report["message_id"], (0, 0))
        assert now[0] > before[0]
        assert now[1] > before[1]
        last_reports[report["message_id"]] = now


def test_out_of_order_a_message_is_seen_before_it_is_delivered() -> None:
    campaign = plan(CampaignOptions(destinations=300, out_of_order=0.5, duplicates=0), start_at=START)
    seen = set[str]()
    overtaken = 0
    for report in reports(campaign):
        if report["status"] == "SEEN":
            seen.add(report["message_id"])
        overtaken += report["status"] == "DELIVRD" and report["message_id"] in seen
    assert overtaken > 0


def test_everything_happens_at_the_start_or_within_the_span_after_it() -> None:
    campaign = plan(CampaignOptions(destinations=3000, replies=3000), start_at=START)
    times = [event["micro_timestamp"] for event in reports(campaign) + bodies(campaign, "reply")]
    assert min(times) >= START_MS
    assert max(times) <= START_MS + SPAN.total_seconds() * 1000


def test_duplicates_are_the_same_bytes_again_after_their_original() -> None:
    campaign = plan(CampaignOptions(destinations=300, duplicates=0.25, reply_retries=0), start_at=START)
    originals = [callback for callback in campaign.callbacks if not callback.repeat]
    repeats = [callback for callback in campaign.callbacks if callback.repeat]
    assert len(repeats) == round(0.25 * len(originals))
    sent = set[bytes]()
    for callback in campaign.callbacks:
        assert callback.repeat == (callback.bodies[0].data in sent)
        sent.add(callback.bodies[0].data)


def test_a_reply_has_the_keys_of_the_specification() -> None:
    campaign = plan(PLAIN, start_at=START)
    sender_of = {report["message_id"]: report["from"] for report in reports(campaign)}
    number_of = {report["message_id"]: report["to"] for report in reports(campaign)}
    replies = bodies(campaign, "reply")
    assert len(replies) == campaign.replies == 20
    for reply in replies:
        assert set(reply) - {"client_job_id", "orig_message_id"} == {
            "api_job_id", "reply_message_id", "req_uuid", "channel",
            "timestamp", "micro_timestamp", "from", "to", "message",
        }  # fmt: skip
        assert reply["channel"] == "VIBER"
        assert str(UUID(reply["req_uuid"])) == reply["req_uuid"]
        assert reply["timestamp"] == reply["micro_timestamp"] // 1000
        if "orig_message_id" in reply:
            assert reply["from"] == number_of[reply["orig_message_id"]]
            assert reply["to"] == sender_of[reply["orig_message_id"]]


def test_replies_bring_emoji_right_to_left_text_quotes_and_none_at_all() -> None:
    messages = [reply["message"] for reply in bodies(plan(PLAIN, start_at=START), "reply")]
    texts = "".join(message.get("text", "") for message in messages)
    assert {} in messages
    assert {"\U0001f44d", "\u05e9", "\u0645", '"', "\\", "\n", "\u0301"} <= set(texts)
    assert max(len(message.get("text", "")) for message in messages) > 2000


def test_a_reply_is_sent_again_under_a_new_req_uuid_and_the_same_reply_message_id() -> None:
    options = CampaignOptions(destinations=50, replies=40, reply_retries=0.5, duplicates=0)
    campaign = plan(options, start_at=START)
    again = [callback for callback in campaign.callbacks if callback.repeat]
    replies = bodies(campaign, "reply")
    assert len(again) == 20
    assert len(replies) == len({reply["req_uuid"] for reply in replies}) == 60
    assert len({reply["reply_message_id"] for reply in replies}) == 40


def test_the_attempts_of_a_reply_differ_in_their_req_uuid_alone_and_those_of_reports_in_nothing() -> None:
    for callback in plan(PLAIN, start_at=START).callbacks:
        assert len(callback.bodies) == 3
        if callback.kind == "status":
            assert len({body.data for body in callback.bodies}) == 1
        else:
            sent = [json.loads(body.data) for body in callback.bodies]
            assert len({body.pop("req_uuid") for body in sent}) == 3
            assert sent[0] == sent[1] == sent[2]


@given(options=OPTIONS)
@settings(max_examples=60, deadline=None)
def test_no_two_reports_share_a_natural_key_and_the_counts_are_exact(options: CampaignOptions) -> None:
    campaign = plan(options, start_at=START)
    originals = [callback for callback in campaign.callbacks if not callback.repeat]
    keys = [key for callback in originals for key in callback.bodies[0].reports]
    reply_ids = [reply_id for callback in originals for reply_id, _ in callback.bodies[0].replies]
    assert len(keys) == len(set(keys)) == campaign.reports
    assert len(reply_ids) == len(set(reply_ids)) == campaign.replies == options.replies
    assert campaign.reports == 2 * options.destinations + round(options.seen * options.destinations)


@given(options=OPTIONS)
@settings(max_examples=30, deadline=None)
def test_the_keys_of_a_body_are_those_of_the_records_in_it(options: CampaignOptions) -> None:
    for callback in plan(options, start_at=START).callbacks:
        for body in callback.bodies:
            sent = json.loads(body.data)
            if callback.kind == "reply":
                assert body.replies == ((sent["reply_message_id"], sent["req_uuid"]),)
            else:
                assert body.reports == tuple(
                    (it["message_id"], it["type"], it["status"], it["to"], it["micro_timestamp"], it["error_code"])
                    for it in sent["data"]
                )
