"""The Grafana dashboard, `deploy/grafana/dashboard.json`: written by `make docs` from `panels.toml` next to it.

Each query gets the chosen jobs, cells and handlers here. A stat has its thresholds and mappings, as Grafana's own are
base green and red from 80.
"""

import json
import re
from collections.abc import Iterator, Sequence
from typing import Any, Final

import msgspec
from msgspec import Struct

from tests.docs import pages

_SOURCE: Final = {"type": "prometheus", "uid": "${datasource}"}
_METRIC: Final = re.compile(r"\b(?P<name>(?:callbacks|process)_[a-z_]+)(?:\{(?P<labels>[^}]*)\})?")
# What a web process exposes of itself.
_OF_WEB: Final = re.compile(r"callbacks_web_(?!processes)|callbacks_build_info|process_")
_WITH_HANDLER: Final = re.compile(
    r"callbacks_(?:deliveries_total|retries_total|dead_letters$|handler_|delivery_duration)"
)
# Grafana's own rate over what it draws, at least four scrapes.
_RANGE: Final = "$__rate_interval"
_COLUMNS: Final = 24
_STAT: Final = (4, 4)
_GRAPH: Final = (8, 8)


class Colour(Struct, frozen=True, forbid_unknown_fields=True):
    """The colour of a number from a value on; None: of all below the next."""

    colour: str
    start: float | None = msgspec.field(default=None, name="from")


class Panel(Struct, frozen=True, forbid_unknown_fields=True):
    """A panel; with `colours` it is a single number."""

    title: str
    unit: str
    description: str
    queries: tuple[tuple[str, str], ...]
    section: str = ""
    colours: tuple[Colour, ...] = ()
    words: dict[str, str] = {}
    no_value: str = "-"


class Row(Struct, frozen=True, forbid_unknown_fields=True):
    """A row of panels."""

    title: str
    panels: tuple[Panel, ...]


class Rows(Struct, frozen=True, forbid_unknown_fields=True):
    """The whole file."""

    rows: tuple[Row, ...]


def dashboard_lines() -> Iterator[str]:
    """Yield the lines of the file."""
    yield from json.dumps(dashboard(), indent=2, ensure_ascii=False).splitlines()


def dashboard() -> dict[str, Any]:
    """Return the dashboard as Grafana reads it."""
    return {
        "title": "Callbacks",
        "uid": "callbacks",
        "description": "The service as its metrics have it. Made by make docs.",
        "tags": ["callbacks"],
        "schemaVersion": 39,
        "version": 1,
        "editable": True,
        # Shared crosshair.
        "graphTooltip": 1,
        "refresh": "30s",
        "time": {"from": "now-3h", "to": "now"},
        "links": [_link("Runbook", "${runbook}")],
        "templating": {"list": list(_variables())},
        "panels": list(_panels()),
    }


def _variables() -> Iterator[dict[str, Any]]:
    yield {"name": "datasource", "type": "datasource", "query": "prometheus", "label": "Prometheus"}
    for name, label, metric in (
        ("job", "Job of ops", "callbacks_redis_up"),
        ("web_job", "Job of web", "callbacks_web_workers"),
        ("cell", "Cell", "callbacks_redis_up"),
        ("handler", "Handler", "callbacks_deliveries_total"),
    ):
        source_label = "job" if name == "web_job" else name
        yield _query_variable(name, label, f"label_values({metric}, {source_label})") | {
            "includeAll": True,
            "multi": True,
            "allValue": ".*",
            "current": {"text": "All", "value": "$__all"},
        }
    # Where CALLBACKS_RUNBOOK_URL says that the runbook is.
    yield _query_variable("runbook", "Runbook", "label_values(callbacks_runbook_info, url)") | {"hide": 2}


def _query_variable(name: str, label: str, query: str) -> dict[str, Any]:
    return {"name": name, "type": "query", "label": label, "datasource": _SOURCE, "query": query, "refresh": 2}


def _panels() -> Iterator[dict[str, Any]]:
    y = number = 0
    text = (pages.REPOSITORY / "deploy/grafana/panels.toml").read_bytes()
    for row in msgspec.toml.decode(text, type=Rows).rows:
        number += 1
        yield _panel(number, "row", row.title, {"x": 0, "y": y, "w": _COLUMNS, "h": 1}) | {
            "collapsed": False,
            "panels": [],
        }
        y += 1
        for size in (_STAT, _GRAPH):
            width, height = size
            found = [one for one in row.panels if bool(one.colours) == (size == _STAT)]
            for index, one in enumerate(found):
                number += 1
                line, column = divmod(index, _COLUMNS // width)
                position = {"x": column * width, "y": y + line * height, "w": width, "h": height}
                yield _query_panel(number, one, position)
            y += -(-len(found) * width // _COLUMNS) * height
    number += 1
    yield _panel(number, "row", "Alerts", {"x": 0, "y": y, "w": _COLUMNS, "h": 1}) | {"collapsed": False, "panels": []}
    yield _panel(number + 1, "alertlist", "Alerts that fire", {"x": 0, "y": y + 1, "w": _COLUMNS, "h": 8}) | {
        "description": "The alerts of deploy/prometheus/alerts.yml, if Grafana shows those of this data source.",
        "options": {
            "viewMode": "list",
            "groupMode": "default",
            "maxItems": 50,
            "sortOrder": 3,
            "alertInstanceLabelFilter": '{alertname=~"Callbacks.*"}',
            "datasource": "${datasource}",
            "stateFilter": {"firing": True, "pending": True, "error": True, "normal": False, "noData": False},
        },
    }


def _panel(number: int, kind: str, title: str, position: dict[str, int]) -> dict[str, Any]:
    return {"id": number, "type": kind, "title": title, "gridPos": position}


def _query_panel(number: int, panel: Panel, position: dict[str, int]) -> dict[str, Any]:
    defaults: dict[str, Any] = {"unit": panel.unit}
    options: dict[str, Any] = {"tooltip": {"mode": "multi", "sort": "desc"}, "legend": {"displayMode": "list"}}
    if panel.colours:
        options = {"colorMode": "background", "graphMode": "none"}
        defaults |= _stat_defaults(panel)
    return _panel(number, "stat" if panel.colours else "timeseries", panel.title, position) | {
        "description": panel.description,
        "datasource": _SOURCE,
        "links": [_link("What to do", f"${{runbook}}#{panel.section}")] if panel.section else [],
        "fieldConfig": {"defaults": defaults, "overrides": []},
        "options": options,
        "targets": _targets(panel.queries),
    }


def _stat_defaults(panel: Panel) -> dict[str, Any]:
    """Return thresholds of their own, so that no number is red because it is above 80."""
    values = {value: {"text": text, "index": index} for index, (value, text) in enumerate(panel.words.items())}
    return {
        "color": {"mode": "thresholds"},
        "thresholds": {
            "mode": "absolute",
            "steps": [{"value": one.start, "color": one.colour} for one in panel.colours],
        },
        "noValue": panel.no_value,
        "mappings": [{"type": "value", "options": values}] if values else [],
    }


def _targets(queries: Sequence[tuple[str, str]]) -> list[dict[str, str]]:
    return [
        {"refId": chr(ord("A") + index), "expr": select(query), "legendFormat": legend}
        for index, (legend, query) in enumerate(queries)
    ]


def select(query: str) -> str:
    """Return a query for the chosen jobs, cells and handlers, with Grafana's range in place of RANGE."""

    def chosen(found: re.Match[str]) -> str:
        name = found["name"]
        labels = [found["labels"]] if found["labels"] else []
        labels.append(f'job=~"${"web_job" if _OF_WEB.match(name) else "job"}"')
        labels.append('cell=~"$cell"')
        if _WITH_HANDLER.match(name):
            labels.append('handler=~"$handler"')
        return f"{name}{{{','.join(labels)}}}"

    return _METRIC.sub(chosen, query).replace("[RANGE]", f"[{_RANGE}]")


def _link(title: str, url: str) -> dict[str, Any]:
    # Grafana's schema requires the rest too.
    rest = {"asDropdown": False, "icon": "doc", "includeVars": False, "keepTime": False, "tags": [], "tooltip": ""}
    return {"title": title, "type": "link", "url": url, "targetBlank": True} | rest
