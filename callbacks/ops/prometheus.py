"""`/metrics` for Prometheus: read from Redis at each scrape; while Redis is unavailable it says so, with 200.

The audit reads every waiting job, so it runs at most once a minute, and not while very many wait. A metric has its age.
With CALLBACKS_CELLS the metrics are those of all cells, each with the label `cell`. Overdue messages are those of the
database, which no cell has.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Final

import redis
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from callbacks.ops.status import metric_families, snapshot_reader
from callbacks.ops.status.audit_cache import AuditCache, Balance
from callbacks.ops.status.overdue import OverdueCounter
from shared import connections
from shared.cells import Cell
from shared.cells_reader import CellsReader
from shared.setting_values import Durability

CONTENT_TYPE: Final = CONTENT_TYPE_PLAIN_0_0_4
AUDIT_EVERY_SECONDS: Final = 60.0


class ServiceCollector(Collector):
    """The metrics of the service behind `connection`. `collect` may be called in any thread."""

    def __init__(self, connection: redis.Redis, level: Durability) -> None:
        self._connection = connection
        self._level: Durability = level
        self._audit_cache = AuditCache(connection, every_seconds=AUDIT_EVERY_SECONDS)

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics read from Redis; only `callbacks_redis_up` while it does not answer."""
        try:
            found = snapshot_reader.read_snapshot(self._connection, self._level)
            balance = self._audit_cache.get(found.jobs)
        except redis.RedisError:
            yield _redis_up(is_up=False)
            return
        yield _redis_up(is_up=True)
        yield from metric_families.build(found)
        if balance is not None and not balance.moving:
            yield from _audit_metrics(balance)


class CellsCollector(Collector):
    """The metrics of each cell, which has its name in the label `cell`."""

    def __init__(self, cells: Sequence[Cell], level: Durability) -> None:
        def open_collector(connection: redis.Redis) -> Callable[[], list[Metric]]:
            collector = ServiceCollector(connection, level)
            return lambda: list(collector.collect())

        self._reader = CellsReader(cells, open_collector, timeout_seconds=connections.WEB_TIMEOUT_SECONDS)

    def collect(self) -> Iterator[Metric]:
        """Yield each metric once, with the samples of all cells."""
        families: dict[str, Metric] = {}
        for one in self._reader.read():
            for metric in [_redis_up(is_up=False)] if one.value is None else one.value:
                family = families.setdefault(metric.name, Metric(metric.name, metric.documentation, metric.type))
                family.samples += [
                    sample._replace(labels={"cell": one.cell, **sample.labels}) for sample in metric.samples
                ]
        yield from families.values()


class OwnCollector(Collector):
    """What `callbacks ops` knows without Redis: where the runbook is, and the overdue messages of the handler `sql`."""

    def __init__(self, runbook_url: str, counter: OverdueCounter | None) -> None:
        self._runbook_url = runbook_url
        self._counter = counter

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics of the last count."""
        yield metric_families.runbook(self._runbook_url)
        if self._counter is not None:
            yield from metric_families.overdue(self._counter.status)


def _redis_up(*, is_up: bool) -> Metric:
    return GaugeMetricFamily("callbacks_redis_up", "1: Redis answers.", value=int(is_up))


def _audit_metrics(balance: Balance) -> Iterator[Metric]:
    yield GaugeMetricFamily(
        "callbacks_audit_difference", "Records and events that are lost or counted twice.", value=balance.difference
    )
    yield GaugeMetricFamily("callbacks_audit_age_seconds", "Age of the last audit.", value=balance.age_seconds)
