"""The metrics of a web process, or of several that share a port, from their snapshots.

Labels are statuses, reasons, states, kinds and names of tokens; never a number, a text, an address or a token (I9).
"""

import math
import os
import platform
import resource
from collections.abc import Iterator, Sequence
from importlib import metadata
from typing import Any, Final

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector

from callbacks.distribution import DISTRIBUTION
from ingest.prometheus.snapshots import ProcessSnapshot, Snapshots
from shared import web_metric_families
from shared.metrics import ACCEPTED
from shared.settings import Settings
from shared.web_metric_families import rows

PREFIX: Final = "callbacks_web"
_KINDS: Final = ("report", "reply", "unknown")
_SPOOL_STATES: Final = ("none", "drained", "filling", "full", "failing")
_DESTINATIONS: Final = ("redis", "spool", "none")
# Of the processes together: these are added up, of the others the least counts.
_ADDED: Final = frozenset(("process_virtual_memory_bytes", "process_resident_memory_bytes", "process_open_fds"))
_CPU: Final = "process_cpu_seconds_total"


class WebCollector(Collector):
    """The metrics of the web processes that send `snapshots`."""

    def __init__(self, snapshots: Snapshots, settings: Settings) -> None:
        self._snapshots = snapshots
        self._settings = settings
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(self)

    def exposition(self) -> bytes:
        """Return all metrics in Prometheus's text format, version 0.0.4."""
        return generate_latest(self._registry)

    def describe(self) -> list[Metric]:
        """Return nothing: the metrics are made when they are asked for."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Yield all metrics."""
        metrics, live = self._snapshots.metrics(), self._snapshots.live()
        states = [snapshot.state for snapshot in live if snapshot.state is not None]
        accepted = CounterMetricFamily(f"{PREFIX}_accepted", "Callbacks accepted.", labels=("kind", "source"))
        numbers = dict(rows(metrics, ACCEPTED, words=2))
        for source in dict.fromkeys(token.name for token in self._settings.tokens):
            for kind in _KINDS:
                accepted.add_metric((kind, source), numbers.get((kind, source), 0))
        yield accepted
        yield from web_metric_families.build(metrics, prefix=PREFIX)
        yield from self._state(states)
        yield from _process(live)

    def _state(self, states: Sequence[dict[str, Any]]) -> Iterator[Metric]:
        yield _gauge("workers", "Web processes behind this port that run.", len(states))
        yield _gauge(
            "redis_durable", "1: Redis can be written to, and is as durable as required.", _all(states, "durable")
        )
        level = GaugeMetricFamily(
            f"{PREFIX}_durability_info", "1: CALLBACKS_DURABILITY has this value.", labels=("level",)
        )
        level.add_metric((self._settings.durability,), 1)
        yield level
        yield _by_value("spool_state", "Web processes by the state of their spool.", "state", _SPOOL_STATES, states)
        yield _by_value(
            "destination",
            "Web processes by where a callback that came now would be stored; none: it would be refused.",
            "destination",
            _DESTINATIONS,
            states,
        )
        yield _gauge("spool_callbacks", "Callbacks in the spool.", sum(state["callbacks"] for state in states))
        # Each process measures the whole folder, which they share.
        yield _gauge("spool_bytes", "Bytes in the spool.", max((state["bytes"] for state in states), default=0))
        yield _gauge(
            "spool_limit_bytes",
            "Size limit of the spool.",
            self._settings.spool_max_bytes * bool(self._settings.spool_dir),
        )
        yield _gauge(
            "spool_full_in_seconds",
            "Seconds until the spool is full, if it grows as in the last minute; +Inf: it does not grow.",
            min((_seconds(state["full_in_seconds"]) for state in states), default=math.inf),
        )
        yield _gauge(
            "refused_unstored",
            "Callbacks that nothing could store, until ten minutes after the last.",
            sum(state.get("refused", 0) for state in states),
        )
        yield _gauge(
            "refused_retry_left_seconds",
            "Seconds for which the gateway still sends the first callback that nothing could store; 0: it does not.",
            min((state["refused_left_seconds"] for state in states if state.get("refused")), default=0.0),
        )
        yield _gauge(
            "failing_loops", "Background loops that keep failing.", sum(state["failing_loops"] for state in states)
        )
        build = GaugeMetricFamily("callbacks_build_info", "1: the release that runs.", labels=("version", "python"))
        build.add_metric((metadata.version(DISTRIBUTION), platform.python_version()), 1)
        yield build


def _seconds(value: float | None) -> float:
    return math.inf if value is None else value


def _all(states: Sequence[dict[str, Any]], name: str) -> int:
    return int(bool(states) and all(state[name] for state in states))


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(f"{PREFIX}_{name}", text, value=value)


def _by_value(name: str, text: str, label: str, values: Sequence[str], states: Sequence[dict[str, Any]]) -> Metric:
    found = GaugeMetricFamily(f"{PREFIX}_{name}", text, labels=(label,))
    for value in values:
        found.add_metric((value,), sum(state[label] == value for state in states))
    return found


def _process(live: Sequence[ProcessSnapshot]) -> Iterator[Metric]:
    """Yield the usual metrics of a process, of this one and of those that it started together."""
    families: dict[str, Metric] = {}
    values: dict[str, list[float]] = {}
    for pid in dict.fromkeys((os.getpid(), *(snapshot.pid for snapshot in live))):
        for family in ProcessCollector(pid=lambda pid=pid: pid, registry=None).collect():  # type: ignore[misc]
            (sample,) = family.samples
            families[sample.name] = family
            values.setdefault(sample.name, []).append(sample.value)
    if _CPU in values:
        # What processes that have ended used, so that the sum never falls.
        ended = resource.getrusage(resource.RUSAGE_CHILDREN)
        values[_CPU].append(ended.ru_utime + ended.ru_stime)
    for name, family in families.items():
        value = sum(values[name]) if name in _ADDED or name == _CPU else min(values[name])
        made = CounterMetricFamily if name == _CPU else GaugeMetricFamily
        yield made(family.name, family.documentation, value=value)
