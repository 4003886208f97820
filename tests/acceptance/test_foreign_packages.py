"""A project that has modules of the service's names: each part of the service finds its own, and the handler."""

import json
import re
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.acceptance.processes import CALLBACKS, TOKEN, Running, get, run, started
from tests.redis_server import RedisServer, free_port, require

PACKAGES = ("workers", "shared", "ops", "ingest", "simulator")
# On PYTHONPATH these would be the libraries, for any program; in the current folder they are nothing to the service.
LIBRARIES = ("click", "queue", "redis", "uvicorn")
THEIRS = "raise RuntimeError('the modules of the project')\n"
HANDLER = """
import concurrent.futures, json, multiprocessing, os
from pathlib import Path
from callbacks import ReportEvent, handler

def square(number):
    return number * number

@handler(ReportEvent)
def orders(event):
    with Path(os.environ["ORDERS_FILE"]).open("a") as file:
        print(event.message_id, file=file)
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = tmp_path / "project"
    for name in PACKAGES:
        (folder / name).mkdir(parents=True)
        for module in ("__init__.py", "process.py"):
            (folder / name / module).write_text(THEIRS)
    (folder / "cli.py").write_text(THEIRS)
    (folder / "orders.py").write_text(HANDLER)
    return folder


IN_THE_FOLDER = pytest.param({}, id="the current folder")
ON_PYTHONPATH = pytest.param({"PYTHONPATH": "{project}"}, id="on PYTHONPATH")
WITH_SAFEPATH = pytest.param({"PYTHONSAFEPATH": "1"}, id="with PYTHONSAFEPATH")


@pytest.fixture(params=[IN_THE_FOLDER, ON_PYTHONPATH, WITH_SAFEPATH])
def environment(
    request: pytest.FixtureRequest, project: Path, tmp_path: Path, redis_server: RedisServer
) -> dict[str, str]:
    given = {name: value.format(project=project) for name, value in request.param.items()}
    return given | {
        "CALLBACKS_HANDLERS": "orders",
        "ORDERS_FILE": str(tmp_path / "delivered"),
        "CALLBACKS_TOKENS": f"acceptance={TOKEN}",
        "CALLBACKS_ALLOWED_IPS": "127.0.0.1,::1",
        "REDIS_URL": redis_server.url,
    }


@pytest.fixture
def start(project: Path, environment: dict[str, str]) -> Iterator[Callable[..., Running]]:
    with started(project, environment, forked=False) as starter:
        yield starter


def post(url: str, number: int) -> None:
    body = {"data": [{"message_id": f"m-{number}", "status": "DELIVRD"}]}
    request = urllib.request.Request(f"{url}/status", json.dumps(body).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=30) as answer:
        assert answer.status == 200


def delivered(environment: dict[str, str]) -> list[str]:
    file = Path(environment["ORDERS_FILE"])
    return sorted(file.read_text().split()) if file.exists() else []


@pytest.mark.parametrize("environment", [IN_THE_FOLDER, ON_PYTHONPATH], indirect=True)
def test_each_part_as_in_production(start: Callable[..., Running], project: Path, environment: dict[str, str]) -> None:
    if "PYTHONPATH" not in environment:
        for name in LIBRARIES:
            (project / f"{name}.py").write_text(THEIRS)
    checked = run("check", cwd=project, environment=environment, forked=False)
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert "handler 'orders': orders.orders" in checked.stdout
    tried = run(
        "handlers", "try", "orders", "--sample", "delivered", cwd=project, environment=environment, forked=False
    )
    assert tried.returncode == 0, tried.stdout + tried.stderr
    Path(environment["ORDERS_FILE"]).unlink()

    port, ops_port = free_port(), free_port()
    web = start("web", PORT=str(port), WEB_CONCURRENCY="2")
    expand, deliver = start("worker", "expand"), start("worker", "deliver")
    ops = start("ops", CALLBACKS_OPS_PORT=str(ops_port))
    web.until(lambda: get(f"http://127.0.0.1:{port}/readyz")[0] == 200, "readiness")
    ops.until(lambda: get(f"http://127.0.0.1:{ops_port}/livez")[0] == 200, "the operators' page")
    for number in range(20):
        post(f"http://127.0.0.1:{port}/callbacks/{TOKEN}", number)

    deliver.until(lambda: len(delivered(environment)) >= 20, "delivery")

    assert delivered(environment) == sorted(f"m-{number}" for number in range(20))
    for part in (web, expand, deliver, ops):
        assert "the modules of the project" not in part.output
        assert part.stop() == 0, part.output


@pytest.mark.parametrize("environment", [ON_PYTHONPATH], indirect=True)
def test_everything_at_once_with_dev(start: Callable[..., Running], environment: dict[str, str]) -> None:
    require()
    dev = start("dev", "--port", str(free_port()))
    dev.wait_for_output("callback_url")
    found = re.search(r"callback_url +(http://\S+)/status", dev.output)
    assert found
    for number in range(20):
        post(found[1], number)

    dev.until(lambda: len(delivered(environment)) >= 20, "delivery")

    assert delivered(environment) == sorted(f"m-{number}" for number in range(20))
    assert dev.stop() == 0, dev.output


def test_the_command_is_a_module_of_the_services_own_name_too(project: Path, start: Callable[..., Running]) -> None:
    python = str(Path(CALLBACKS).with_name("python"))
    listed = start("-P", "-m", "callbacks", "handlers", "--json", command=python)

    assert listed.wait() == 0, listed.output
    assert "orders" in listed.output


def test_a_handler_may_start_processes_of_its_own(project: Path, start: Callable[..., Running]) -> None:
    (project / "orders.py").write_text(
        HANDLER
        + """
@handler(ReportEvent)
def counting(event):
    with concurrent.futures.ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        assert pool.submit(square, 7).result() == 49
"""
    )

    tried = start("handlers", "try", "counting", "--sample", "delivered")

    assert tried.wait() == 0, tried.output
