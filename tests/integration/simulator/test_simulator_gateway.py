"""The simulated gateway keeps the specification's rules against a real server, and its ledger tells the truth."""

import asyncio
import json
import socket
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

import pytest
from aiohttp import web

from callbacks.simulator import gateway
from callbacks.simulator.campaign import Campaign, plan
from callbacks.simulator.gateway import run
from callbacks.simulator.ledger import Ledger, LedgerEntry, read, unique_events
from callbacks.simulator.oddities import ODDITIES
from callbacks.simulator.options import CampaignOptions, DeliveryOptions
from callbacks.simulator.payloads import ReportKey
from callbacks.simulator.receiver_urls import parse_urls
from callbacks.simulator.summary import RunProgress, RunSummary
from tests.integration.simulator.receiver import Answer, Request, always, receiving

START = datetime(2015, 9, 25, 7, 12, 54, tzinfo=UTC)
SMALL = plan(
    CampaignOptions(destinations=6, bundle=(4, 4), replies=3, duplicates=0, out_of_order=0, reply_retries=0),
    start_at=START,
)
SOON = DeliveryOptions(retry_seconds=0.05)


def send(
    campaign: Campaign,
    base: str,
    *,
    options: DeliveryOptions = SOON,
    single_url: bool = False,
    ledger_path: Path | None = None,
) -> RunSummary:
    where = parse_urls(base, single_url=single_url)
    if ledger_path is None:
        return asyncio.run(run(campaign, where, options=options))
    with Ledger(ledger_path) as ledger:
        return asyncio.run(run(campaign, where, options=options, ledger=ledger))


def test_reports_and_replies_are_posted_as_json_to_their_urls() -> None:
    with receiving(always(200)) as receiver:
        summary = send(SMALL, receiver.base)
    assert summary.acknowledged == summary.sent == summary.planned == len(SMALL.callbacks) == len(receiver.requests)
    for request in receiver.requests:
        assert request.method == "POST"
        assert request.content_type == "application/json; charset=utf-8"
        kind = "status" if "data" in json.loads(request.body) else "reply"
        assert request.path == f"/callbacks/s3cr3t-token/{kind}"


def test_a_single_url_gets_all() -> None:
    with receiving(always(200)) as receiver:
        send(SMALL, receiver.base, single_url=True)
    assert {request.path for request in receiver.requests} == {"/callbacks/s3cr3t-token"}


@pytest.mark.parametrize(
    ("name", "path", "content_type"),
    [
        ("encodings/no-label", "/callbacks/s3cr3t-token/status", ""),
        ("encodings/form-label", "/callbacks/s3cr3t-token/status", "application/x-www-form-urlencoded"),
        ("shapes/report-at-the-reply-url", "/callbacks/s3cr3t-token/reply", "application/json; charset=utf-8"),
        ("shapes/doubled-slash", "/callbacks/s3cr3t-token//status", "application/json; charset=utf-8"),
    ],
)
def test_an_odd_callback_is_posted_with_its_headers_to_its_url(name: str, path: str, content_type: str) -> None:
    oddity = next(oddity for oddity in ODDITIES if oddity.name == name)
    written = oddity.write(next(callback for callback in SMALL.callbacks if callback.kind == "status"), 0)
    assert written is not None
    with receiving(always(200)) as receiver:
        summary = send(Campaign((written,), reports=1, replies=0), receiver.base)
    [request] = receiver.requests
    assert (request.path, request.content_type) == (path, content_type)
    assert (summary.sent, summary.odd) == (1, 1)


def test_with_one_connection_callbacks_arrive_in_the_order_of_the_plan() -> None:
    campaign = plan(CampaignOptions(destinations=100), start_at=START)
    with receiving(always(200)) as receiver:
        send(campaign, receiver.base, options=DeliveryOptions(connections=1))
    assert [request.body for request in receiver.requests] == [it.bodies[0].data for it in campaign.callbacks]


@pytest.mark.parametrize("status", [201, 202, 204, 301, 302, 307, 400, 404, 410, 500, 503])
def test_anything_but_200_is_tried_three_times_and_discarded(status: int) -> None:
    with receiving(always(status, headers={"Location": "/elsewhere"})) as receiver:
        summary = send(SMALL, receiver.base)
    attempts = 3 * len(SMALL.callbacks)
    assert summary.discarded == summary.sent == len(SMALL.callbacks)
    assert summary.acknowledged == 0
    (reason,) = summary.failed_attempts
    assert reason.startswith(f"{status}: ")
    assert summary.failed_attempts[reason] == attempts
    assert len(receiver.requests) == attempts
    assert not any("elsewhere" in request.path for request in receiver.requests), "redirects are not followed"


@pytest.mark.parametrize("failures", [1, 2])
def test_a_receiver_that_recovers_in_time_loses_nothing(failures: int) -> None:
    async def recovering(request: Request) -> web.Response:
        return web.Response(status=503 if request.attempt <= failures else 200)

    with receiving(recovering) as receiver:
        summary = send(SMALL, receiver.base)
    assert (summary.acknowledged, summary.discarded) == (len(SMALL.callbacks), 0)
    assert summary.failed_attempts == {"503: service unavailable": failures * len(SMALL.callbacks)}


def test_a_retried_report_is_the_same_and_a_retried_reply_has_a_new_req_uuid() -> None:
    with receiving(always(503)) as receiver:
        send(SMALL, receiver.base)
    sent = Counter(request.body for request in receiver.requests)
    for callback in SMALL.callbacks:
        times = {sent[body.data] for body in callback.bodies}
        assert times == ({3} if callback.kind == "status" else {1})


def test_a_callback_that_waits_to_be_sent_again_holds_up_no_other() -> None:
    stop = asyncio.Event()

    async def failing_first(request: Request) -> web.Response:
        return web.Response(status=503 if request.number == 1 else 200)

    def stop_when_one_is_left(progress: RunProgress) -> None:
        if progress.acknowledged == progress.planned - 1:
            stop.set()

    async def sending() -> RunSummary:
        options = DeliveryOptions(connections=1, retry_seconds=3600)
        where = parse_urls(receiver.base)
        return await run(SMALL, where, options=options, stop=stop, on_progress=stop_when_one_is_left)

    with receiving(failing_first) as receiver:
        summary = asyncio.run(sending())
    assert (summary.sent, summary.unfinished, summary.discarded) == (len(SMALL.callbacks), 1, 0)
    assert len(receiver.requests) == len(SMALL.callbacks), "and it is not sent again before its wait is over"


def test_a_due_retry_goes_before_what_has_not_been_sent_yet() -> None:
    first = SMALL.callbacks[0].bodies[0].data

    async def failing_once(request: Request) -> web.Response:
        return web.Response(status=503 if request.body == first and request.attempt == 1 else 200)

    with receiving(failing_once) as receiver:
        send(SMALL, receiver.base, options=DeliveryOptions(connections=1, retry_seconds=0))
    assert [request.body for request in receiver.requests][:2] == [first, first]


def test_an_answer_that_takes_too_long_is_a_failure() -> None:
    async def stuck(_request: Request) -> web.Response:
        await asyncio.sleep(60)
        return web.Response()

    with receiving(stuck) as receiver:
        options = DeliveryOptions(timeout_seconds=0.05, retry_seconds=0, connections=100)
        summary = send(SMALL, receiver.base, options=options)
    assert summary.discarded == len(SMALL.callbacks)
    assert summary.failed_attempts == {"timeout": 3 * len(SMALL.callbacks)}


def test_a_connection_that_breaks_off_is_a_failure() -> None:
    async def hang_up() -> RunSummary:
        server = await asyncio.start_server(lambda _reader, writer: writer.close(), "127.0.0.1", 0)
        async with server:
            port = server.sockets[0].getsockname()[1]
            return await run(SMALL, parse_urls(f"http://127.0.0.1:{port}/callbacks/t"), options=SOON)

    assert asyncio.run(hang_up()).failed_attempts == {"disconnected": 3 * len(SMALL.callbacks)}


def test_something_that_does_not_speak_http_is_a_failure() -> None:
    async def greet(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 mail.example.com ESMTP\r\n\r\n")
        await writer.drain()
        writer.close()

    async def meet() -> RunSummary:
        async with await asyncio.start_server(greet, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            return await run(SMALL, parse_urls(f"http://127.0.0.1:{port}/callbacks/t"), options=SOON)

    summary = asyncio.run(meet())
    assert summary.discarded == len(SMALL.callbacks)
    assert set(summary.failed_attempts) <= {"not HTTP", "disconnected"}


def test_a_receiver_that_is_not_there_is_a_failure() -> None:
    with socket.socket() as bound_but_deaf:
        bound_but_deaf.bind(("127.0.0.1", 0))
        port = bound_but_deaf.getsockname()[1]
        summary = send(SMALL, f"http://127.0.0.1:{port}/callbacks/t")
    assert summary.failed_attempts == {"connection refused": 3 * len(SMALL.callbacks)}


@pytest.mark.parametrize(
    "answer",
    [
        always(200, text="long " * 100_000),
        always(200, headers={"Content-Encoding": "gzip"}, text="not gzip"),
        always(200, headers={"Set-Cookie": "a=b"}, text='{"status":"quarantined"}'),
    ],
    ids=["long", "badly encoded", "with a cookie"],
)
def test_the_body_of_a_200_is_ignored(answer: Answer) -> None:
    with receiving(answer) as receiver:
        assert send(SMALL, receiver.base).acknowledged == len(SMALL.callbacks)


def test_the_ledger_agrees_with_the_receiver_event_by_event(tmp_path: Path) -> None:
    campaign = plan(CampaignOptions(destinations=300, replies=60, reply_retries=0.3), start_at=START)
    unlucky = campaign.callbacks[5].bodies[0].data

    async def moody(request: Request) -> web.Response:
        return web.Response(status=500 if request.body == unlucky or request.number % 7 == 0 else 200)

    answered: list[tuple[Request, int]] = []

    async def recorded(request: Request) -> web.Response:
        response = await moody(request)
        answered.append((request, response.status))
        return response

    path = tmp_path / "ledger.jsonl"
    with receiving(recorded) as receiver:
        summary = send(campaign, receiver.base, ledger_path=path)
    entries = read(path)
    kept = [json.loads(request.body) for request, status in answered if status == 200]
    unique = unique_events(entries)

    assert unique.reports == {key for body in kept for key in report_keys(body)}
    assert unique.replies == {body["reply_message_id"] for body in kept if "data" not in body}
    assert (summary.reports, summary.replies) == (len(unique.reports), len(unique.replies))
    assert Counter(entry.body for entry in entries if entry.acknowledged) == Counter(
        request.body.decode() for request, status in answered if status == 200
    )
    assert_counts(entries, summary, requests=len(receiver.requests))


def report_keys(body: dict[str, list[dict[str, str | int]]]) -> list[tuple[str | int, ...]]:
    names = ("message_id", "type", "status", "to", "micro_timestamp", "error_code")
    return [tuple(report[name] for name in names) for report in body.get("data", [])]


def assert_counts(entries: list[LedgerEntry], summary: RunSummary, *, requests: int) -> None:
    outcomes = Counter(entry.acknowledged for entry in entries)
    records: list[ReportKey | tuple[str, str]] = []
    for entry in entries:
        if entry.acknowledged:
            records += entry.reports + entry.replies
            assert entry.attempts[-1].status == 200
            assert entry.acknowledged_at is not None
        else:
            assert len(entry.attempts) == 3
        assert all(attempt.reason == "500: internal server error" for attempt in entry.attempts[:-1])
    assert len(entries) == summary.planned == summary.sent
    assert (outcomes[True], outcomes[False]) == (summary.acknowledged, summary.discarded)
    assert summary.discarded > 0
    assert sum(entry.repeat for entry in entries) == summary.repeats
    assert sum(len(entry.attempts) for entry in entries) == summary.attempts == requests
    assert len(records) == summary.records


def test_a_slow_rate_holds_back_what_is_not_due() -> None:
    stop = asyncio.Event()
    progresses: list[RunProgress] = []

    def stop_after_a_while(progress: RunProgress) -> None:
        progresses.append(progress)
        if progress.acknowledged and len(progresses) >= 5:
            stop.set()

    async def sending() -> RunSummary:
        options = DeliveryOptions(rate=0.001)
        return await run(SMALL, parse_urls(receiver.base), options=options, stop=stop, on_progress=stop_after_a_while)

    with receiving(always(200)) as receiver:
        summary = asyncio.run(sending())
    assert (summary.sent, summary.acknowledged) == (1, 1)


def test_at_a_rate_everything_is_sent_too() -> None:
    with receiving(always(200)) as receiver:
        summary = send(SMALL, receiver.base, options=DeliveryOptions(rate=500))
    assert summary.acknowledged == len(SMALL.callbacks)


def test_progress_is_told_and_ends_with_the_end() -> None:
    progresses: list[RunProgress] = []
    with receiving(always(200)) as receiver:
        asyncio.run(run(SMALL, parse_urls(receiver.base), on_progress=progresses.append))
    planned = len(SMALL.callbacks)
    assert progresses[-1] == RunProgress(
        planned=planned, acknowledged=planned, discarded=0, waiting=0, failed_attempts={}
    )


def test_trouble_in_telling_progress_ends_the_run() -> None:
    def trouble(_progress: RunProgress) -> None:
        raise RuntimeError("no terminal")

    with receiving(always(200)) as receiver, pytest.raises(RuntimeError, match="no terminal"):
        asyncio.run(run(SMALL, parse_urls(receiver.base), on_progress=trouble))


@pytest.mark.parametrize("rate", [0, 1000])
def test_a_run_that_gives_up_ends_when_all_was_sent_once_and_nothing_was_accepted(rate: float) -> None:
    with receiving(always(503)) as receiver:
        options = DeliveryOptions(rate=rate, retry_seconds=3600)
        summary = asyncio.run(run(SMALL, parse_urls(receiver.base), options=options, gives_up=True))
    assert summary.interrupted
    assert len(receiver.requests) == summary.attempts == summary.sent == summary.unfinished == len(SMALL.callbacks)


def test_it_does_not_wait_for_the_rest_of_a_slow_campaign(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gateway, "_GIVE_UP_SECONDS", 0)
    with receiving(always(404)) as receiver:
        options = DeliveryOptions(rate=0.001, retry_seconds=3600)
        summary = asyncio.run(run(SMALL, parse_urls(receiver.base), options=options, gives_up=True))
    assert (summary.interrupted, summary.sent) == (True, 1)


def test_it_goes_on_if_one_callback_was_accepted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gateway, "_GIVE_UP_SECONDS", 0)

    async def failing_at_first(request: Request) -> web.Response:
        return web.Response(status=503 if request.attempt == 1 and request.number > 1 else 200)

    with receiving(failing_at_first) as receiver:
        options = DeliveryOptions(retry_seconds=0.3, connections=1)
        summary = asyncio.run(run(SMALL, parse_urls(receiver.base), options=options, gives_up=True))
    assert (summary.interrupted, summary.acknowledged) == (False, len(SMALL.callbacks))


def test_a_stopped_run_ends_at_once_with_what_was_done() -> None:
    stop = asyncio.Event()

    def stop_when_all_wait(progress: RunProgress) -> None:
        if progress.waiting == progress.planned:
            stop.set()

    async def stopping() -> RunSummary:
        options = DeliveryOptions(retry_seconds=3600)
        return await run(SMALL, parse_urls(receiver.base), options=options, stop=stop, on_progress=stop_when_all_wait)

    with receiving(always(503)) as receiver:
        summary = asyncio.run(stopping())
    assert summary.interrupted
    assert (summary.sent, summary.unfinished, summary.discarded) == (len(SMALL.callbacks), len(SMALL.callbacks), 0)


def test_a_cancelled_run_leaves_no_task_behind() -> None:
    async def cancelled() -> set[asyncio.Task[object]]:
        sending = asyncio.create_task(run(SMALL, parse_urls(receiver.base), options=DeliveryOptions()))
        await asyncio.sleep(0.05)
        sending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sending
        return asyncio.all_tasks()

    with receiving(always(503)) as receiver:
        assert len(asyncio.run(cancelled())) == 1
