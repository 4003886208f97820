"""One trace for a callback, from its POST to each handler, as a collector of OpenTelemetry's sees it."""

import json
from pathlib import Path

from shared import connections
from tests.acceptance.processes import HANDLERS, TOKEN, started
from tests.acceptance.traced_handlers import RECIPIENT, TEXT
from tests.acceptance.traced_service import POST, Start, post_reports, report, send, service
from tests.collector import Collector, Span
from tests.integration.runtime.pools import until
from tests.redis_server import RedisServer, StartRedis
from workers.failures import iteration
from workers.failures.failure import DeadLetter


def test_one_callback_is_one_trace_with_the_right_parents(traced: Start, port: int, collector: Collector) -> None:
    service(traced)

    post_reports(port, report(1), report(2))

    deliveries = ["deliver archive", "deliver choosy", "deliver slow"]
    until(lambda: [len(collector.named(name)) for name in deliveries] == [2, 2, 2], "spans")
    until(lambda: len(collector.named("expand")) == 1, "spans")
    post, expand = collector.one(POST), collector.one("expand")
    assert {span.trace for span in collector.spans} == {post.trace}
    assert (post.parent, expand.parent) == ("", post.id)
    assert {span.parent for name in deliveries for span in collector.named(name)} == {expand.id}
    assert (post.kind, expand.kind) == ("server", "consumer")
    assert {span.kind for name in deliveries for span in collector.named(name)} == {"consumer"}
    assert post.attributes == {
        "http.request.method": "POST",
        "http.route": "/callbacks/{token}/status",
        "http.response.status_code": 200,
        "url.scheme": "http",
        "callbacks.source": "acceptance",
        "callbacks.kind": "report",
        "callbacks.records": 2,
        "callbacks.destination": "redis",
        "messaging.batch.message_count": 1,
    }
    assert [_queued(span) for span in (expand, collector.named("deliver choosy")[0])] == [
        ("rq", "expand", "process", "expand"),
        ("rq", "deliver-choosy", "process", "deliver"),
    ]
    assert _numbers(expand) == (2, 0, 0)
    assert {_outcome(span) for name in deliveries for span in collector.named(name)} == {("delivered", 1, None)}
    assert {(span.service, span.scope) for span in (post, expand, *collector.named("deliver choosy"))} == {
        ("callbacks", "callbacks.web"),
        ("callbacks", "callbacks.expand"),
        ("callbacks", "callbacks.deliver"),
    }


def test_what_a_handler_records_itself_lies_below_its_delivery(traced: Start, port: int, collector: Collector) -> None:
    service(traced)

    post_reports(port, report(1))

    for name in ("choosy", "slow", "archive"):
        own, delivery = collector.one(f"work of {name}"), collector.one(f"deliver {name}")
        assert (own.trace, own.parent, own.scope) == (delivery.trace, delivery.id, "mine")


def test_events_of_a_batch_handlers_call_are_linked_and_apart_if_it_fails(
    traced: Start, port: int, collector: Collector
) -> None:
    service(traced)

    post_reports(port, report(1), report(2, "UNKNOWN"))

    until(lambda: len(collector.named("deliver archive")) == 4, "spans")
    first, second, *alone = collector.named("deliver archive")
    assert {_outcome(first), _outcome(second)} == {("split", 1, "ValueError")}
    assert (first.links, second.links) in (((), (first.id,)), ((second.id,), ()))
    assert [(_outcome(span), span.links) for span in alone] == [(("delivered", 1, None), ())] * 2


def test_each_attempt_is_a_span_of_the_trace_until_it_is_delivered(
    traced: Start, port: int, collector: Collector
) -> None:
    service(traced)

    post_reports(port, report(1, "UNDELIV"))

    until(lambda: len(collector.named("deliver choosy")) == 2, "spans")
    first, second = collector.named("deliver choosy")
    assert (_outcome(first), _outcome(second)) == (("retried", 1, "ValueError"), ("delivered", 2, None))
    assert (first.is_error, second.is_error) == (True, False)
    until(lambda: collector.named("expand"), "spans")
    assert {(span.trace, span.parent) for span in (first, second)} == {
        (collector.one(POST).trace, collector.one("expand").id)
    }


def test_a_dead_letter_shows_as_the_end_of_its_trace(
    traced: Start, port: int, collector: Collector, redis_server: RedisServer
) -> None:
    service(traced)

    post_reports(port, report(1, "REJECTD"))
    until(lambda: collector.named("deliver choosy"), "spans")
    post_reports(port, report(2, "EXPIRED"))

    until(lambda: len(collector.named("deliver choosy")) == 3, "spans")
    outcomes = [_outcome(span) for span in collector.named("deliver choosy")]
    assert outcomes == [("dead", 1, "Reject"), ("retried", 1, None), ("dead", 2, "Retry")]
    assert [span.is_error for span in collector.named("deliver choosy")] == [True, False, True]

    def traces_of_letters() -> list[str | None]:
        with connections.connect(redis_server.url) as client:
            letters = [one for one in iteration.iterate_letters(client, "choosy") if isinstance(one, DeadLetter)]
        return [letter.trace_id for letter in letters[::-1]]

    # A span may arrive before its event is settled, and before the web process's.
    until(lambda: traces_of_letters() == [post.trace for post in collector.named(POST)], "the letters of both traces")


def test_a_repeated_callback_has_a_trace_that_ends_with_its_duplicates(
    traced: Start, port: int, collector: Collector
) -> None:
    service(traced)
    post_reports(port, report(1))
    until(lambda: collector.named("expand"), "spans")

    post_reports(port, report(1), report(2), {"status": "DELIVRD"})

    until(lambda: len(collector.named("expand")) == 2 and len(collector.named("deliver choosy")) == 2, "spans")
    first, second = collector.named("expand")
    assert (_numbers(first), _numbers(second)) == ((1, 0, 0), (1, 1, 1))
    assert [span.parent for span in collector.named("deliver choosy")] == [first.id, second.id]


def test_callbacks_of_one_run_keep_their_traces_and_are_linked(traced: Start, port: int, collector: Collector) -> None:
    traced("web").wait_for_output("listening on")
    for number in range(5):
        post_reports(port, report(number), report(100 + number))
    until(lambda: len(collector.named(POST)) == 5, "spans")

    traced("worker", "expand")
    traced("worker", "deliver")

    until(lambda: len(collector.named("deliver choosy")) == 10, "spans")
    until(lambda: len(collector.named("expand")) == 5, "spans")
    expands = collector.named("expand")
    assert [_numbers(span) for span in expands] == [(2, 0, 0)] * 5
    assert len({span.trace for span in expands}) == 5
    assert [span.links for span in expands] == [(), *[(expands[0].id,)] * 4]
    for expand in expands:
        assert [span.parent for span in collector.named("deliver choosy") if span.trace == expand.trace] == [
            expand.id,
            expand.id,
        ]


def test_a_trace_goes_on_after_its_worker_was_killed_during_a_call(
    traced: Start, port: int, collector: Collector
) -> None:
    service(traced)

    post_reports(port, report(1, "DELETED"))

    until(lambda: collector.named("deliver choosy") and collector.named("expand"), "spans")
    delivery = collector.one("deliver choosy")
    assert (delivery.trace, delivery.parent) == (collector.one(POST).trace, collector.one("expand").id)
    assert _outcome(delivery) == ("delivered", 1, None)


def test_a_trace_goes_through_the_spool(
    start_redis: StartRedis, tmp_path: Path, port: int, collector: Collector
) -> None:
    server = start_redis()
    environment = {
        "REDIS_URL": server.url,
        "PORT": str(port),
        "CALLBACKS_TOKENS": f"acceptance={TOKEN}",
        "CALLBACKS_ALLOWED_IPS": "127.0.0.1",
        **HANDLERS,
        **collector.environment(),
    }
    with started(tmp_path, environment) as start:
        web = start("web")
        web.wait_for_output("listening on")
        post_reports(port, report(0))
        server.stop()

        post_reports(port, report(1))
        web.until(lambda: len(collector.named(POST)) == 2, "the second POST")
        server.start()
        start("worker", "expand")
        start("worker", "deliver").until(lambda: len(collector.named("deliver choosy")) == 2, "deliveries")
        web.until(lambda: len(collector.named("expand")) == 2, "the expansion")

    first, post = collector.named(POST)
    (expand,) = (span for span in collector.named("expand") if span.trace == post.trace)
    assert [span.attributes["callbacks.destination"] for span in (first, post)] == ["redis", "spool"]
    assert expand.parent == post.id
    assert [span.parent for span in collector.named("deliver choosy") if span.trace == post.trace] == [expand.id]


def test_nothing_that_a_sender_or_a_recipient_wrote_is_in_any_span(
    traced: Start, port: int, collector: Collector
) -> None:
    service(traced)

    post_reports(
        port, report(1, "UNDELIV"), report(2, "REJECTD"), report(3, "EXPIRED"), {"status": TEXT, "to": RECIPIENT}
    )
    reply = {"reply_message_id": TEXT, "from": RECIPIENT, "message": {"text": TEXT}}
    assert send(port, json.dumps(reply).encode(), path="reply") == 200
    assert send(port, b"{" + TEXT.encode()) == 400
    assert send(port, b'{"status": "%s"}' % TEXT.encode()) == 200
    assert send(port, b"{}", token=f"wrong-{TOKEN}", traceparent=f"00-{'f' * 32}-{TEXT}-01") == 404

    until(lambda: len(collector.named("deliver choosy")) == 6 and len(collector.named(POST)) == 4, "spans")
    until(lambda: len(collector.named("expand")) == 2, "spans")
    for forbidden in (TOKEN, TEXT, RECIPIENT, "message-1", "Traceback"):
        assert forbidden.encode() not in collector.raw, forbidden
    assert not any(span.events or span.message for span in collector.spans)
    assert sorted(span.attributes["http.response.status_code"] for span in collector.named(POST)) == [
        200,
        200,
        400,
        404,
    ]


def _numbers(expand: Span) -> tuple[object, ...]:
    return tuple(expand.attributes[f"callbacks.{name}"] for name in ("new", "duplicates", "quarantined"))


def _queued(span: Span) -> tuple[object, ...]:
    names = ("system", "destination.name", "operation.type", "operation.name")
    return tuple(span.attributes.get(f"messaging.{name}") for name in names)


def _outcome(delivery: Span) -> tuple[object, ...]:
    return tuple(delivery.attributes.get(name) for name in ("callbacks.outcome", "callbacks.attempt", "error.type"))
