"""What is traced and what is stored for it; and nothing that goes wrong with traces harms what they are about."""

import json
import socket
from typing import Final

import msgspec
import pytest

from shared import keys, queues
from tests.acceptance.processes import HANDLERS
from tests.acceptance.traced_service import POST, Start, delivered, post_reports, report, send
from tests.collector import Collector
from tests.integration.runtime.pools import until
from tests.redis_server import RedisServer, StartRedis, free_port

NOWHERE: Final = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9"}


@pytest.mark.parametrize(("proxies", "is_parent"), [("127.0.0.1", True), ("192.0.2.1", False)])
def test_a_traceparent_is_believed_from_a_trusted_proxy_alone(
    traced: Start, port: int, collector: Collector, proxies: str, *, is_parent: bool
) -> None:
    traced("web", CALLBACKS_TRUSTED_PROXIES=proxies).wait_for_output("listening on")

    body = json.dumps({"data": [report(1)]}).encode()
    assert send(port, body, traceparent=f"00-{'a' * 32}-{'b' * 16}-01") == 200

    until(lambda: collector.named(POST), "spans")
    post = collector.one(POST)
    assert ((post.trace, post.parent) == ("a" * 32, "b" * 16)) is is_parent
    assert (post.parent == "") is not is_parent


@pytest.mark.parametrize(("ratio", "fields"), [("0", 5), ("1", 6)])
def test_only_what_is_sampled_is_stored_with_its_trace(
    traced: Start, port: int, collector: Collector, redis_server: RedisServer, *, ratio: str, fields: int
) -> None:
    web = traced("web", OTEL_TRACES_SAMPLER="parentbased_traceidratio", OTEL_TRACES_SAMPLER_ARG=ratio)
    web.wait_for_output("listening on")

    post_reports(port, report(1))

    assert web.stop() == 0
    assert [span.name for span in collector.spans] == ([POST] if fields == 6 else [])
    with redis_server.client(decode_responses=False) as client:
        (job_id,) = client.lrange(keys.rq_queue(queues.EXPAND), 0, -1)
        data = client.hget(keys.job(job_id.decode()), "data")
    _version, (callback,) = msgspec.json.decode(data)[2]
    assert len(callback) == fields


def test_processes_that_do_not_trace_work_on_what_others_traced(
    traced: Start, start: Start, port: int, collector: Collector, redis_server: RedisServer
) -> None:
    traced("web").wait_for_output("listening on")
    start("worker", "expand", **HANDLERS)
    start("worker", "deliver", **HANDLERS)

    post_reports(port, report(1))

    until(lambda: delivered(redis_server) == 1, "the delivery")
    until(lambda: len(collector.spans) == 1, "the web process's span")


def test_spans_under_way_are_exported_at_the_end_of_a_process(
    traced: Start, port: int, collector: Collector, redis_server: RedisServer
) -> None:
    late = {"OTEL_BSP_SCHEDULE_DELAY": "600000"}
    web = traced("web", **late)
    web.wait_for_output("listening on")
    post_reports(port, report(1))
    expand = traced("worker", "expand", **late)
    deliver = traced("worker", "deliver", **late)
    until(lambda: delivered(redis_server) == 1, "the deliveries")

    assert not collector.spans
    assert (web.stop(), expand.stop(), deliver.stop()) == (0, 0, 0)

    assert {POST, "expand", "deliver choosy", "deliver slow", "deliver archive"} <= {
        span.name for span in collector.spans
    }


def test_a_callback_that_cannot_be_kept_is_an_error_of_its_post(
    start_redis: StartRedis, start: Start, port: int, collector: Collector
) -> None:
    server = start_redis()
    web = start("web", REDIS_URL=server.url, CALLBACKS_SPOOL_DIR="", **collector.environment())
    web.wait_for_output("listening on")
    server.stop()

    assert send(port, json.dumps({"data": [report(1)]}).encode()) == 503

    until(lambda: len(collector.spans) == 1, "spans")
    post = collector.one(POST)
    assert (post.is_error, post.attributes["error.type"]) == (True, "503")
    assert "callbacks.destination" not in post.attributes


@pytest.mark.parametrize("hangs", [False, True])
def test_a_collector_that_is_unavailable_or_hangs_harms_nothing(
    start: Start, port: int, redis_server: RedisServer, *, hangs: bool
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        nobody = silent.getsockname()[1] if hangs else free_port()
        away = {
            **HANDLERS,
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{nobody}",
            "OTEL_BSP_SCHEDULE_DELAY": "10",
        }
        web = start("web", **away)
        web.wait_for_output("listening on")
        expand, deliver = start("worker", "expand", **away), start("worker", "deliver", **away)

        for number in range(20):
            post_reports(port, report(number))
        until(lambda: delivered(redis_server) == 20, "the deliveries")
        if not hangs:
            web.wait_for_output("action=traces_trouble")

        assert (web.stop(), expand.stop(), deliver.stop()) == (0, 0, 0)
    for process in (web, expand, deliver):
        assert "Traceback" not in process.output
        assert "action=worker_killed" not in process.output
    assert web.output.count("action=traces_trouble") <= 1


@pytest.mark.parametrize(
    ("variables", "output"),
    [
        ({"OTEL_TRACES_EXPORTER": "zipkin"}, "action=traces_off error=LookupError"),
        ({**NOWHERE, "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, "action=traces_off error=LookupError"),
        ({**NOWHERE, "OTEL_EXPORTER_OTLP_PROTOCOL": "pigeons"}, "action=traces_off error=KeyError"),
        ({"OTEL_TRACES_EXPORTER": "otlp", "OTEL_BSP_MAX_QUEUE_SIZE": "1"}, "action=traces_off error=ValueError"),
        ({**NOWHERE, "OTEL_TRACES_EXPORTER": "none"}, ""),
        ({**NOWHERE, "OTEL_SDK_DISABLED": "true"}, ""),
    ],
)
def test_variables_that_ask_for_no_traces_or_for_impossible_ones_leave_the_service_as_it_is(
    start: Start, port: int, variables: dict[str, str], output: str
) -> None:
    web = start("web", **variables)
    web.wait_for_output("listening on")

    post_reports(port, report(1))

    assert web.stop() == 0
    assert (output in web.output) if output else ("callbacks.traces" not in web.output)
    assert web.output.count("callbacks.traces") == (1 if output else 0)
