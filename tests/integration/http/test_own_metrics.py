"""The web process's own /metrics, without Redis: real processes, scraped as Prometheus does."""

import re
from pathlib import Path

import httpx
from prometheus_client.parser import text_string_to_metric_families

from tests.redis_server import StartRedis, free_port
from tests.web_process import StartWeb, WebProcess, report, until


def scrape(web: WebProcess) -> dict[tuple[str, ...], float]:
    until(lambda: "metrics: " in web.output or web.process.poll() is not None)
    (url,) = re.findall(r"^metrics: (\S+/metrics)$", web.output, re.MULTILINE)
    answer = httpx.get(url, trust_env=False, timeout=60)
    assert answer.status_code == 200
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }


def shows(web: WebProcess, **expected: float) -> None:
    """Wait until the metrics have these values; a name's parts after "__" are labels."""
    until(
        lambda: {name: number for name, number in expected.items() if _find(scrape(web), name) != number} == {},
    )


def _find(found: dict[tuple[str, ...], float], name: str) -> float:
    return found.get((f"callbacks_web_{name.partition('__')[0]}", *name.split("__")[1:]), -1.0)


def test_while_redis_is_unavailable_it_says_what_becomes_of_callbacks(start_web: StartWeb, tmp_path: Path) -> None:
    web = start_web(
        f"redis://127.0.0.1:{free_port()}/0",
        CALLBACKS_METRICS_PORT="0",
        CALLBACKS_SPOOL_DIR=str(tmp_path / "spool"),
        CALLBACKS_SPOOL_MAX_BYTES=str(1 << 20),
    )
    assert web.post(report(1)).status_code == 200
    shows(web, spool_state__filling=1, destination__spool=1, redis_durable=0, spool_callbacks=1, responses_total__200=1)
    assert scrape(web)["callbacks_web_spool_bytes",] > 0
    assert scrape(web)["callbacks_web_spool_limit_bytes",] == 1 << 20
    large = report(2).replace(b'"DELIVRD"', b'"DELIVRD","x":"%s"' % (b"x" * 60_000))
    answers = [web.post(large).status_code for _ in range(30)]
    refused = answers.count(503)
    assert refused
    shows(web, spool_state__full=1, destination__none=1, refused_unstored=refused, spool_full_in_seconds=0)
    assert 500 < scrape(web)["callbacks_web_refused_retry_left_seconds",] <= 600
    assert scrape(web)["callbacks_web_refused_total", "503", "store-unavailable", "known"] == refused
    assert scrape(web)["process_resident_memory_bytes",] > 1 << 20


def test_one_port_has_the_sum_of_several_processes(start_web: StartWeb, start_redis: StartRedis) -> None:
    web = start_web(start_redis(), WEB_CONCURRENCY="2", CALLBACKS_METRICS_PORT="0")
    shows(web, workers=2)
    for number in range(20):
        assert web.post(report(number)).status_code == 200
    shows(web, responses_total__200=20, accepted_total__report__gateway=20, destination__redis=2, redis_durable=1)
    assert web.stop() == 0


def test_it_is_not_served_without_the_setting_and_a_taken_port_stops_the_start(
    start_web: StartWeb, start_redis: StartRedis
) -> None:
    web = start_web(start_redis())
    assert web.post(report(1)).status_code == 200
    assert "metrics: " not in web.output
    other = start_web(f"redis://127.0.0.1:{free_port()}/0", CALLBACKS_METRICS_PORT=str(web.port))
    until(lambda: other.process.poll() is not None)
    assert f"cannot listen on 127.0.0.1 port {web.port}" in other.output
