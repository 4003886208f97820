"""docs/handlers.md is so: its files are written and its commands run, in the order of its reader."""

import re
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from callbacks import Event, ReplyEvent, ReportEvent, own_packages, pytest_plugin, samples
from callbacks.testing import Conformance, Worker
from shared import memory
from shared.schema import STATUSES
from tests.acceptance.processes import REPOSITORY, started
from tests.docs import pages
from tests.docs.pages import Block, with_blocks
from tests.docs.shell import shell
from tests.redis_server import free_port, require

PAGE = "docs/handlers.md"
FILES = {
    block.text.splitlines()[0].removeprefix("# "): block.text
    for block in pages.blocks(PAGE)
    if block.language == "python"
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, text in FILES.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    return tmp_path


@with_blocks(PAGE, "1. Write", "2. Try", "3. Test")
def test_the_handler_is_tried_and_tested_by_the_commands_after_it(blocks: list[Block], folder: Path) -> None:
    _orders, try_it, _tests, test_it = (block.text for block in blocks)

    tried = shell(try_it, folder)
    assert tried.returncode == 0, tried.stdout + tried.stderr
    assert "done" in tried.stdout

    tested = shell(test_it, folder, PYTEST_ADDOPTS="-W error")
    assert tested.returncode == 0, tested.stdout + tested.stderr
    assert re.search(r"\d+ passed", tested.stdout)


@with_blocks(PAGE, "4. Run")
def test_the_handler_runs_with_the_whole_service(blocks: list[Block], folder: Path) -> None:
    require()
    (run,) = (block.text for block in blocks)
    variable, value, command = re.findall(r"^(\w+)=(\S+) callbacks (\w+)$", run, re.MULTILINE)[0]
    with started(folder, {variable: value}) as start:
        service = start(command, "--port", str(free_port()))
        service.until(lambda: "export REDIS_URL" in service.output, "the lines to paste")
        line = next(line for line in service.output.splitlines() if "callbacks simulate" in line)
        gateway = start(*line.split()[1:], "--undelivered", "0.5")
        assert gateway.wait() == 0, gateway.output
        service.until((folder / "orders.db").exists, "a refund")


class Chat(ThreadingHTTPServer):
    """Answers with `status`, and keeps the keys of what was posted."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), ChatRequest)
        self.status, self.keys = 200, list[str]()


class ChatRequest(BaseHTTPRequestHandler):
    server: Chat

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.server.keys.append(self.headers["Idempotency-Key"])
        self.send_response(self.server.status)
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 # the base class's name
        pass


@pytest.fixture
def chat() -> Iterator[Chat]:
    with Chat() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def module(name: str, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Load one of the page's files, for this test alone."""
    found = ModuleType(name)
    monkeypatch.setitem(sys.modules, name, found)
    exec(compile(FILES[f"{name}.py"], f"{name}.py", "exec"), vars(found))
    return found


@pytest.mark.parametrize(
    ("status", "outcome"), [(200, "done"), (429, "retry"), (403, "rejected"), (500, "failed"), (0, "paused")]
)
@with_blocks(PAGE, "Many at once, and connections that stay open")
def test_its_chat_does_what_it_says(
    chat: Chat, monkeypatch: pytest.MonkeyPatch, status: int, outcome: str, blocks: list[Block]
) -> None:
    assert [block.text for block in blocks] == [FILES["chat.py"]]
    port, chat.status = chat.server_port if status else free_port(), status
    monkeypatch.setenv("CHAT_URL", f"http://127.0.0.1:{port}")
    event = samples.reply("Hello")

    with Worker(module("chat", monkeypatch).answer) as worker:
        assert worker.deliver(event).outcome == outcome

    assert chat.keys == ([event.id] if status else [])


@with_blocks(PAGE, "Lists of events, and filters")
def test_its_ledger_has_a_line_for_each_event_that_passes(
    folder: Path, monkeypatch: pytest.MonkeyPatch, blocks: list[Block]
) -> None:
    assert [block.text for block in blocks] == [FILES["ledger.py"]]
    monkeypatch.chdir(folder)
    given: list[Event] = [samples.report("DELIVRD"), samples.report("ACCEPTD"), samples.reply("Hello")]

    with Worker(module("ledger", monkeypatch).ledger) as worker:
        outcomes = [result.outcome for result in worker.deliver_all(given)]

    assert outcomes == ["done", "filtered", "done"]
    lines = (folder / "ledger.jsonl").read_text(encoding="utf-8").splitlines()
    assert lines == [given[0].to_json(), given[2].to_json()]


@with_blocks(PAGE, "As a package of its own")
def test_its_entry_point_is_the_examples(blocks: list[Block]) -> None:
    (block,) = blocks
    example = REPOSITORY / "examples" / "callbacks-unreachable" / "pyproject.toml"

    assert block.text in example.read_text(encoding="utf-8")


def test_it_names_each_field_of_each_event() -> None:
    shared, _, rest = pages.section(PAGE, "Events").partition("| kind |")
    both = set(re.findall(r"`([a-z_]+)`", shared))
    own = {
        kind: set(re.findall(r"`([a-z_]+)`", cells))
        for kind, cells in re.findall(r"^\| `(\w+)` \|(.*)\|$", rest, re.MULTILINE)
    }

    assert own == {
        "ReportEvent": set(ReportEvent.__struct_fields__) - both,
        "ReplyEvent": set(ReplyEvent.__struct_fields__) - both,
    }
    assert both == set(ReportEvent.__struct_fields__) & set(ReplyEvent.__struct_fields__)


def test_it_names_each_status_of_the_specification() -> None:
    assert set(re.findall(r"\b[A-Z]{4,7}\b", pages.section(PAGE, "Events"))) == STATUSES | {"JSON"}


def test_its_table_names_each_fixture() -> None:
    named = {name for cells in pages.rows(PAGE, "fixture", "what it does") for name in re.findall(r"`(\w+)`", cells[0])}
    fixtures = {name for name in vars(pytest_plugin) if name.startswith("callbacks_")}

    assert named == fixtures
    assert len([name for name in vars(Conformance) if name.startswith("test_")]) == 9, "the page says nine"


def test_the_names_that_it_keeps_for_the_service_are_kept() -> None:
    (names,) = re.findall(r"^The names (.*?) are the service's own", pages.text(PAGE), re.MULTILINE)

    assert set(re.findall(r"`(\w+)`", names)) == own_packages.NAMES


def test_the_share_of_memory_that_it_names_holds() -> None:
    assert f"while Redis is {memory.FAILURES_SHARE * 100:.0f} % full" in pages.text(PAGE)
