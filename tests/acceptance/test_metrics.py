"""`/metrics` behind real workers: what a handler made of events, and what its process told only at its end."""

import urllib.request
from collections.abc import Callable
from pathlib import Path

from tests.acceptance.processes import TOKEN, Running
from tests.redis_server import free_port

HANDLER = """
from callbacks import Reject, ReportEvent, Retry, handler

@handler(ReportEvent)
def choosy(event):
    if event.status == "REJECTD":
        raise Reject("never")
    if event.status == "UNDELIV":
        raise Retry(after_seconds=3600)
"""


def test_deaths_retries_and_runs_of_a_handler_are_counted_once_and_outlive_its_process(
    start: Callable[..., Running], port: int, tmp_path: Path
) -> None:
    (tmp_path / "choosy_handler.py").write_text(HANDLER)
    handlers = {"CALLBACKS_HANDLERS": "choosy_handler"}
    ops_port = free_port()
    start("ops", CALLBACKS_OPS_PORT=str(ops_port)).wait_for_output("the operators' page")
    start("web").wait_for_output("listening on")
    expand = start("worker", "expand", **handlers)
    deliver = start("worker", "deliver", **handlers)
    for number, status in enumerate((b"DELIVRD", b"REJECTD", b"REJECTD", b"UNDELIV")):
        data = b'{"data":[{"message_id":"%d","status":"%s","type":"SMS","to":"35699000001"}]}' % (number, status)
        url = f"http://127.0.0.1:{port}/callbacks/{TOKEN}/status"
        with urllib.request.urlopen(
            urllib.request.Request(url, data, {"content-type": "application/json"}), timeout=30
        ) as answer:
            assert answer.status == 200

    def shown() -> set[str]:
        with urllib.request.urlopen(f"http://127.0.0.1:{ops_port}/metrics", timeout=30) as answer:
            return set(answer.read().decode().splitlines())

    expand.until(lambda: 'callbacks_queue_jobs{queue="deliver-choosy",state="scheduled"} 1.0' in shown(), "a retry")
    expand.until(lambda: 'callbacks_dead_letters{handler="choosy"} 2.0' in shown(), "dead letters")
    assert 'callbacks_workers{queue="deliver-choosy"} 1.0' in shown()
    deliver.stop()
    assert {
        'callbacks_deliveries_total{handler="choosy",outcome="dead_letter"} 2.0',
        'callbacks_deliveries_total{handler="choosy",outcome="delivered"} 1.0',
        'callbacks_retries_total{handler="choosy"} 1.0',
        'callbacks_handler_call_duration_seconds_count{handler="choosy"} 4.0',
        'callbacks_workers{queue="deliver-choosy"} 0.0',
    } <= shown()
