"""The guide for authors of handlers is so: its files are written, its commands run, in the order of its reader."""

import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from callbacks import Event, samples
from callbacks.testing import Worker
from tests.acceptance.processes import CALLBACKS, REPOSITORY, started
from tests.redis_server import free_port, require
from workers import registry

README = (REPOSITORY / "workers" / "handlers" / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", README, re.DOTALL)
SHELL = [block for language, block in BLOCKS if language == "sh"]
FILES = {block.splitlines()[0].removeprefix("# "): block for language, block in BLOCKS if language == "python"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, text in FILES.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    return tmp_path


def shell(command: str, folder: Path) -> subprocess.CompletedProcess[str]:
    path = f"{Path(CALLBACKS).parent}:{os.environ['PATH']}"
    return subprocess.run(
        ["bash", "-ec", command],
        cwd=folder,
        env={**os.environ, "PATH": path, "PYTEST_ADDOPTS": "-W error"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def test_the_handler_is_tried_and_tested_by_the_commands_beside_it(folder: Path) -> None:
    tried = shell(SHELL[0], folder)
    assert tried.returncode == 0, tried.stdout + tried.stderr
    assert "done" in tried.stdout

    tested = shell(SHELL[1], folder)
    assert tested.returncode == 0, tested.stdout + tested.stderr
    assert re.search(r"\d+ passed", tested.stdout)


def test_the_handler_runs_with_the_whole_service(folder: Path) -> None:
    require()
    variable, value, command = re.findall(r"^(\w+)=(\S+) callbacks (\w+)$", SHELL[2], re.MULTILINE)[0]
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

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 # their name
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
    """Load one of the guide's files, for this test alone."""
    found = ModuleType(name)
    monkeypatch.setitem(sys.modules, name, found)
    exec(compile(FILES[f"{name}.py"], f"{name}.py", "exec"), vars(found))
    return found


@pytest.mark.parametrize(
    ("status", "outcome"), [(200, "done"), (429, "retry"), (403, "rejected"), (500, "failed"), (0, "paused")]
)
def test_its_answer_does_what_it_says(chat: Chat, monkeypatch: pytest.MonkeyPatch, status: int, outcome: str) -> None:
    port, chat.status = chat.server_port if status else free_port(), status
    monkeypatch.setenv("CHAT_URL", f"http://127.0.0.1:{port}")
    event = samples.reply("Hello")

    with Worker(module("chat", monkeypatch).answer) as worker:
        assert worker.deliver(event).outcome == outcome

    assert chat.keys == ([event.id] if status else [])


def test_its_ledger_has_a_line_for_each_event_that_passes(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    given: list[Event] = [samples.report("DELIVRD"), samples.report("ACCEPTD"), samples.reply("Hello")]

    with Worker(module("ledger", monkeypatch).ledger) as worker:
        told = [result.outcome for result in worker.deliver_all(given)]

    assert told == ["done", "filtered", "done"]
    lines = (folder / "ledger.jsonl").read_text(encoding="utf-8").splitlines()
    assert lines == [given[0].to_json(), given[2].to_json()]


def test_its_entry_point_is_the_examples() -> None:
    (block,) = (block for language, block in BLOCKS if language == "toml")
    example = REPOSITORY / "examples" / "callbacks-unreachable" / "pyproject.toml"

    assert block in example.read_text(encoding="utf-8")


def test_its_table_names_the_handlers_that_come_with_the_service() -> None:
    _, _, section = README.partition("## Those that come with the service")
    told = re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE)
    project = (REPOSITORY / "pyproject.toml").read_text(encoding="utf-8")
    offered = re.findall(r'^(\w+) = "workers\.handlers\.', project, re.MULTILINE)

    assert set(told) == set(offered) <= set(registry.installed_names())


def test_each_of_its_blocks_is_run_here() -> None:
    assert [language for language, _ in BLOCKS].count("sh") == len(SHELL) == 3
    assert set(FILES) == {"orders.py", "test_orders.py", "chat.py", "ledger.py"}
    assert {language for language, _ in BLOCKS} == {"sh", "python", "toml"}
