"""Alerts and the dashboard: each checked by promtool, and each of their queries asked of a real Prometheus."""

import json
import re
import subprocess
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from tests.acceptance.processes import REPOSITORY, TOKEN, Running
from tests.prometheus_server import PrometheusServer, require
from tests.redis_server import free_port

ALERTS: Final = REPOSITORY / "deploy/prometheus/alerts.yml"
DASHBOARD: Final = REPOSITORY / "deploy/grafana/dashboard.json"
# What CALLBACKS_RUNBOOK_URL says, also for as long as `callbacks ops` is down.
RUNBOOK_URL: Final = (
    '{{ with query "last_over_time(callbacks_runbook_info[1w])" }}{{ (first .).Labels.url }}'
    "{{ else }}docs/operations.md{{ end }}"
)
# What an operator is woken for: none of it may go unnoticed.
NAMES: Final = {
    *("TargetDown", "NoDurability", "NoWebProcess", "Refused", "SpoolFilling", "BacklogAge", "NoWorkers"),
    *("DeadLetters", "HandlerRetrying", "QuarantineGrowing", "AuditDifference", "RedisMemory", "LoopFailing"),
    "RetentionBehind",
    *("Unreadable", "SenderUnknown", "FieldUnreadable", "WebTargetDown", "WebSpoolFilling", "WebSpoolFullSoon"),
    *("WebSpoolFull", "WebSpoolFailing", "WebRefused", "DeliverySlow", "MessagesOverdue"),
    *("SpoolFailing", "FailuresDropped", "HandlerPaused", "HandlerPausedByOperator", "AcknowledgeSlow"),
    *("NothingReceived", "CertificateExpires"),
}


def promtool(*arguments: str) -> str:
    done = subprocess.run(
        [require("promtool"), *arguments], capture_output=True, text=True, check=False, cwd=REPOSITORY
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_alerts_are_rules_that_prometheus_takes() -> None:
    assert f"{len(NAMES)} rules found" in promtool("check", "rules", str(ALERTS))


def test_what_is_scraped_is_a_configuration_that_prometheus_takes() -> None:
    assert "SUCCESS" in promtool("check", "config", str(ALERTS.with_name("prometheus.yml")))


def test_each_alert_is_quiet_before_and_fires_when_it_should() -> None:
    tests = [ALERTS.with_name("alerts_test.yml"), ALERTS.with_name("alerts_of_days_test.yml")]
    text = "".join(file.read_text() for file in tests)
    tested = set(re.findall(r"eval_time: \S+\n +alertname: Callbacks(\w+)\n +exp_alerts:\n", text))
    assert tested == NAMES
    assert promtool("test", "rules", *map(str, tests)).count("SUCCESS") == len(tests)


def callback(number: int) -> bytes:
    return b'{"data":[{"message_id":"%d","status":"DELIVRD","type":"SMS","to":"35699000001"}]}' % number


@pytest.fixture
def prometheus(start: Callable[..., Running], port: int, tmp_path: Path) -> Iterator[PrometheusServer]:
    """Yield a Prometheus that scrapes the service, with traffic behind it, since before that traffic."""
    require("prometheus")
    metrics_port = free_port()
    web = start("web", CALLBACKS_METRICS_PORT=str(metrics_port))
    web.wait_for_output("listening on")
    start("worker", "expand")
    start("worker", "deliver", CALLBACKS_HANDLERS="log,jsonl", CALLBACKS_RETENTION_DAYS="30")
    ops_port = free_port()
    # No worker of `sql` runs, and so no message is overdue.
    start("ops", CALLBACKS_OPS_PORT=str(ops_port), CALLBACKS_HANDLERS="log,sql").wait_for_output("the operators' page")

    def post(first: int) -> None:
        for number in range(first, first + 20):
            url = f"http://127.0.0.1:{port}/callbacks/{TOKEN}/status"
            request = urllib.request.Request(url, callback(number), {"content-type": "application/json"})
            with urllib.request.urlopen(request, timeout=30) as answer:
                assert answer.status == 200

    post(0)
    targets = {"target": f"127.0.0.1:{ops_port}", "web_target": f"127.0.0.1:{metrics_port}"}
    with PrometheusServer(tmp_path / "prometheus", **targets, rules=ALERTS) as server:
        web.until(lambda: server.query("callbacks_accepted_total"), "a first scrape")
        web.until(lambda: server.query('callbacks_deliveries_total{outcome="delivered"} == 20'), "20 deliveries")
        web.until(lambda: server.query('callbacks_web_responses_total{code="200"} == 20'), "the web process's own")
        post(20)
        web.until(lambda: server.query('callbacks_deliveries_total{outcome="delivered"} == 40'), "40 deliveries")
        web.until(
            lambda: server.query("rate(callbacks_handler_call_duration_seconds_count[5m]) > 0"), "runs of the handler"
        )
        web.until(
            lambda: server.query("rate(callbacks_acknowledge_duration_seconds_count[5m]) > 0"), "acknowledgements"
        )
        web.until(lambda: server.query("rate(callbacks_web_commit_duration_seconds_count[5m]) > 0"), "its commits")
        web.until(lambda: server.query("rate(callbacks_delivery_duration_seconds_count[5m]) > 0"), "delivery times")
        yield server


def metrics(expression: str) -> set[str]:
    """Return the names of metrics that an expression speaks of."""
    return set(re.findall(r"\b(?:callbacks_[a-z_]+|up)\b(?!\()", re.sub(r'"[^"]*"', '""', expression)))


def test_the_dashboard_and_the_alerts_find_what_they_ask_for_and_ask_for_every_metric(
    prometheus: PrometheusServer,
) -> None:
    queries = [_as_all(query) for query in _queries()]
    assert len(queries) > 30
    assert not [query for query in queries if "$" in query]
    for query in queries:
        assert prometheus.query(query), f"nothing found: {query}"
    rules = [rule for group in prometheus.get("rules")["groups"] for rule in group["rules"]]
    assert {rule["name"] for rule in rules} == {f"Callbacks{name}" for name in NAMES}
    for rule in rules:
        assert rule["health"] == "ok", rule
        assert [alert for alert in rule["alerts"] if alert["state"] == "firing"] == [], "all is well here"
        # The certificate is that of a proxy, which another exporter watches.
        assert metrics(rule["query"]) or rule["name"] == "CallbacksCertificateExpires"
        for name in metrics(rule["query"]):
            assert prometheus.query(name), f"{rule['name']} waits for {name}, which is not there"
        assert rule["annotations"].keys() == {"summary", "action", "runbook_url"}
        assert rule["annotations"]["runbook_url"] == f"{RUNBOOK_URL}#{rule['name'].lower()}"
        assert rule["labels"]["severity"] in {"critical", "warning"}
    # And nothing is exposed in vain.
    shown = metrics(DASHBOARD.read_text().replace('\\"', "'").replace('"', " ")) | metrics(ALERTS.read_text())
    exposed = {name for name in prometheus.get("label/__name__/values") if name.startswith("callbacks_")}
    families = {re.sub(r"_(bucket|count|sum)$", "", name) for name in exposed}
    assert families - {re.sub(r"_(bucket|count|sum)$", "", name) for name in shown} == set()


def _dashboard() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(DASHBOARD.read_text())
    return found


def _queries() -> list[str]:
    return [target["expr"] for panel in _dashboard()["panels"] for target in panel.get("targets", ())]


def _as_all(query: str) -> str:
    """Return a query as Grafana asks it while all is chosen: all jobs, cells and handlers."""
    for one in _dashboard()["templating"]["list"]:
        query = query.replace(f"${one['name']}", one.get("allValue", ""))
    return query.replace("$__rate_interval", "1m")


def test_every_query_of_the_dashboard_is_of_the_chosen_jobs_cells_and_handlers() -> None:
    for query in _queries():
        number = len(re.findall(r"\b(?:callbacks|process)_[a-z_]+", query))
        assert query.count('cell=~"$cell"') == number, query
        assert len(re.findall(r'job=~"\$(?:web_)?job"', query)) == number, query
        assert "[5m]" not in query
        if re.search(r"by \([^)]*handler|callbacks_(deliveries|retries|dead_letters|handler_)", query):
            assert 'handler=~"$handler"' in query, query


def test_each_number_of_the_dashboard_has_colours_of_its_own() -> None:
    stats = {
        panel["title"]: panel["fieldConfig"]["defaults"] for panel in _dashboard()["panels"] if panel["type"] == "stat"
    }

    def colour(title: str, value: float) -> str:
        steps = stats[title]["thresholds"]["steps"]
        found = [step["color"] for step in steps if step["value"] is None or step["value"] <= value]
        return str(found[-1])

    assert all(one["thresholds"]["steps"][0]["value"] is None for one in stats.values())
    assert all(step["value"] != 80 for one in stats.values() for step in one["thresholds"]["steps"])
    kept = "Redis keeps what it acknowledges"
    assert [colour(kept, 0), colour(kept, 1)] == ["red", "green"]
    assert stats[kept]["mappings"][0]["options"] == {
        "0": {"text": "NOT KEPT", "index": 0},
        "1": {"text": "kept", "index": 1},
    }
    assert colour("Callbacks a second", 500) == "blue"
    assert [colour("Dead letters", value) for value in (0, 79)] == ["green", "yellow"]
    assert [colour("Audit difference", value) for value in (0, 5)] == ["green", "red"]
    assert [colour("Refused in an hour", value) for value in (0, 1)] == ["green", "red"]
    assert [colour("Messages overdue", value) for value in (0.005, 0.01)] == ["green", "yellow"]


def test_each_panel_of_the_dashboard_says_what_it_shows_and_leads_to_the_runbook() -> None:
    sections = {f"Callbacks{name}".lower() for name in NAMES}
    for panel in _dashboard()["panels"]:
        if panel["type"] == "row":
            continue
        assert panel["description"], panel["title"]
        for link in panel.get("links", ()):
            base, _, section = link["url"].partition("#")
            assert base == "${runbook}"
            assert section in sections, panel["title"]


def test_no_two_panels_of_the_dashboard_lie_on_each_other() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in _dashboard()["panels"]:
        index = panel["gridPos"]
        cells = {(index["x"] + x, index["y"] + y) for x in range(index["w"]) for y in range(index["h"])}
        assert max(x for x, _ in cells) < 24
        assert not cells & taken, panel["title"]
        taken |= cells
