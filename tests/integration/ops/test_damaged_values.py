"""One damaged value in Redis is named on *Now* and in /metrics, which show the rest."""

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from callbacks import ReportEvent, handler
from callbacks.ops.app import create_app
from shared import keys, queues, settings
from tests.integration.harness import Harness, open_harness, record, status
from tests.redis_server import RedisServer


@handler(ReportEvent)
def ledger(event: ReportEvent) -> None:
    pass


@pytest.fixture
def harness(quick_redis: RedisServer) -> Iterator[Harness]:
    with open_harness(quick_redis.url, ledger) as made:
        made.accept(status(record("1"), record("2")))
        made.expand()
        yield made


def get(url: str, *paths: str) -> list[httpx.Response]:
    async def answers() -> list[httpx.Response]:
        app = create_app(settings.load({"REDIS_URL": url}, process="ops"))
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://127.0.0.1") as client:
            return [await client.get(path) for path in paths]

    return asyncio.run(answers())


def text_instead_of(key: str) -> Callable[[Any], object]:
    return lambda client: (client.delete(key), client.set(key, "text"))


def field(key: str, name: str, value: str) -> Callable[[Any], object]:
    return lambda client: client.hset(key, name, value)


def process_state(client: Any) -> None:
    client.zadd(keys.METRICS_PROCESSES, {"web": client.time()[0]})
    client.hset(keys.metrics_of("web"), "state", '{"state": "drained"}')


@pytest.mark.parametrize(
    ("key", "damage"),
    [
        (keys.COUNTS, field(keys.COUNTS, "report.unique", "many")),
        (keys.METRICS, text_instead_of(keys.METRICS)),
        (keys.METRICS, field(keys.METRICS, "x", "1.5")),
        (keys.QUARANTINE, text_instead_of(keys.QUARANTINE)),
        (keys.RECENT_RATE, field(keys.RECENT_RATE, "1", "{no JSON")),
        (keys.RECENT_OUTCOMES, field(keys.RECENT_OUTCOMES, "1", "[]")),
        (keys.SUBSCRIPTIONS, field(keys.SUBSCRIPTIONS, "ledger", "always")),
        (keys.metrics_of("web"), process_state),
        (keys.dead("ledger"), text_instead_of(keys.dead("ledger"))),
        (
            keys.paused("ledger"),
            lambda client: client.hset(keys.paused("ledger"), mapping={"by": "operator", "times": "x"}),
        ),
        (keys.rq_workers(queues.EXPAND), text_instead_of(keys.rq_workers(queues.EXPAND))),
    ],
)
def test_it_is_named_and_the_rest_is_shown(harness: Harness, key: str, damage: Callable[[Any], object]) -> None:
    damage(harness.connection)

    page, metrics = get(harness.url, "/", "/metrics")

    assert page.status_code == 200
    assert f"A value of {key} in Redis is damaged" in page.text
    assert "deliver-ledger" in page.text
    found = {
        sample.name: sample.value
        for family in text_string_to_metric_families(metrics.text)
        for sample in family.samples
        if not sample.labels
    }
    assert (found["callbacks_redis_up"], found["callbacks_damaged_values"]) == (1, 1)


def test_without_damage_nothing_is_named(harness: Harness) -> None:
    page, metrics = get(harness.url, "/", "/metrics")

    assert "is damaged" not in page.text
    assert "\ncallbacks_damaged_values 0.0\n" in metrics.text
