"""`/metrics` for Prometheus: read from Redis at each scrape; while Redis is unavailable it says so, with 200.

The audit reads every waiting job, so it runs at most once a minute, and not while very many wait. A metric has its age.
"""

import threading
from collections.abc import Iterator
from typing import Final

import redis
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from callbacks.ops.status import metric_families, snapshot
from callbacks.ops.status.audit_cache import AuditCache, Balance
from shared.settings import Durability

CONTENT_TYPE: Final = CONTENT_TYPE_PLAIN_0_0_4
AUDIT_EVERY_SECONDS: Final = 60.0


class ServiceCollector(Collector):
    """The metrics of the service behind `connection`. `exposition` may be called in any thread."""

    def __init__(self, connection: redis.Redis, level: Durability) -> None:
        self._connection = connection
        self._level: Durability = level
        self._lock = threading.Lock()
        self._audit_cache = AuditCache(connection, every_seconds=AUDIT_EVERY_SECONDS)
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(self)

    def exposition(self) -> bytes:
        """Return all metrics in Prometheus's text format, version 0.0.4."""
        with self._lock:
            return generate_latest(self._registry)

    def describe(self) -> list[Metric]:
        """Return nothing: describing metrics would read Redis."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics read from Redis; only `callbacks_redis_up` while it does not answer."""
        try:
            found = snapshot.read_snapshot(self._connection, self._level)
            balance = self._audit_cache.get(found.jobs)
        except redis.RedisError:
            yield GaugeMetricFamily("callbacks_redis_up", "1: Redis answers.", value=0)
            return
        yield GaugeMetricFamily("callbacks_redis_up", "1: Redis answers.", value=1)
        yield from metric_families.build(found)
        if balance is not None and not balance.moving:
            yield from _audit_metrics(balance)


def _audit_metrics(balance: Balance) -> Iterator[Metric]:
    yield GaugeMetricFamily(
        "callbacks_audit_difference", "Records and events that are lost or counted twice.", value=balance.difference
    )
    yield GaugeMetricFamily("callbacks_audit_age_seconds", "Age of the last audit.", value=balance.age_seconds)
