"""Without OpenTelemetry's variables, or without its packages, there are no traces, and nothing else is different."""

import json
import sys
import urllib.request
from collections.abc import Callable
from typing import Final, TypeAlias

import pytest

from shared import keys
from tests.acceptance.processes import TOKEN, Running
from tests.integration.runtime.pools import until
from tests.redis_server import RedisServer

Start: TypeAlias = Callable[..., Running]

ASKED: Final = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9"}
WEB: Final = "from callbacks.cli.web import web; web(prog_name='callbacks web')"
WORKER: Final = "from workers.process import main; sys.exit(main())"
# Tells at its end what it has imported. (redis-py imports what measures, not what traces, wherever it is installed.)
ASKING: Final = """
import atexit, sys
ITS = ("opentelemetry.sdk.trace", "opentelemetry.exporter", "shared.tracer", "requests")
atexit.register(lambda: print("imported", sorted(sys.modules.keys() & set(ITS)), flush=True))
"""
ALL: Final = "imported ['opentelemetry.exporter', 'opentelemetry.sdk.trace', 'requests', 'shared.tracer']"
# As where the extra `otel` is not installed: any import of it raises ModuleNotFoundError.
MISSING: Final = """
import sys
class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "opentelemetry":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Missing())
"""


@pytest.mark.parametrize(
    ("variables", "output"),
    [
        # More of them: tests/unit/test_tracing.py
        ({**ASKED, "OTEL_TRACES_EXPORTER": "none"}, "imported []"),
        (ASKED, ALL),
    ],
)
def test_what_traces_is_imported_only_where_its_variables_ask_for_traces(
    start: Start, port: int, redis_server: RedisServer, variables: dict[str, str], output: str
) -> None:
    for process in _processes(start, port, redis_server, ASKING, **variables):
        assert output in process.output


@pytest.mark.parametrize(("variables", "lines"), [({}, 0), (ASKED, 1)])
def test_without_the_packages_there_are_no_traces_and_one_line_says_so_if_they_are_asked_for(
    start: Start, port: int, redis_server: RedisServer, variables: dict[str, str], lines: int
) -> None:
    for process in _processes(start, port, redis_server, MISSING, **variables):
        assert process.output.count('action=traces_off missing=opentelemetry remedy="pip install') == lines
        assert "Traceback" not in process.output


def _processes(start: Start, port: int, server: RedisServer, prelude: str, **variables: str) -> list[Running]:
    """Run a web process and both kinds of worker until one callback is delivered, and stop them."""

    def process(program: str, *arguments: str) -> Running:
        return start("-c", f"{prelude}\n{program}", *arguments, command=sys.executable, **variables)

    web = process(WEB)
    web.wait_for_output("listening on")
    workers = [process(WORKER, queue, "--name", f"{queue}-1") for queue in ("expand", "deliver-log")]
    body = json.dumps({"data": [{"message_id": "1", "status": "DELIVRD"}]}).encode()
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/callbacks/{TOKEN}/status", body, {"content-type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=30) as answer:
        assert answer.status == 200
    with server.client() as client:
        until(
            lambda: client.hget(keys.COUNTS, keys.handler_counter("log", "report", "delivered")) == "1", "the delivery"
        )
    processes = [web, *workers]
    for running in processes:
        running.ask_to_stop()
    assert [running.stop() for running in processes] == [0, 0, 0]
    return processes
