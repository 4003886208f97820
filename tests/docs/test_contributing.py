"""CONTRIBUTING.md is so: its map is the tree, its walk is the way that a callback takes, its commands run."""

import ast
import asyncio
import re
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import httpx
import pytest

from callbacks import ReportEvent, handler
from ingest.app import create_app
from shared import settings
from tests.docs import pages
from tests.docs.pages import REPOSITORY, Block, with_blocks
from tests.docs.shell import shell
from tests.integration.harness import Harness
from tests.redis_server import RedisServer

PAGE = "CONTRIBUTING.md"
CODE_PATH = "The way of a callback through the code"
TOKEN = "walking-token-5c0e8a61"
# A file and what is called in it, as `ingest/endpoint.py:Endpoint.__call__`.
_STEP = re.compile(r"`([\w/]+\.py):([\w.]+)`")
STEPS = _STEP.findall(pages.section(PAGE, CODE_PATH))


def test_its_map_names_each_folder_with_code() -> None:
    named = {
        path.strip("`").rstrip("/") for path, _ in (cells[:2] for cells in pages.rows(PAGE, "folder", "what it holds"))
    }
    folders = {str(path.parent.relative_to(REPOSITORY)) for path in pages.files() if path.name == "__init__.py"}

    for folder in folders:
        assert any(folder == name or folder.startswith(f"{name}/") for name in named), f"{folder} is not in the map"
    for package in ("callbacks", "ingest", "workers"):
        below = {folder for folder in folders if re.fullmatch(rf"{package}/\w+", folder)}
        assert below <= named, f"the map names each folder of {package}"


@pytest.mark.parametrize(("path", "name"), sorted(set(_STEP.findall(pages.text(PAGE)))))
def test_each_function_that_it_names_is_in_the_code(path: str, name: str) -> None:
    nodes: list[ast.stmt] = ast.parse((REPOSITORY / path).read_text(encoding="utf-8")).body
    for part in name.split("."):
        found = [
            node
            for node in nodes
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) and node.name == part
        ]
        assert found, f"{path} has no {name}"
        nodes = found[0].body


def test_its_walk_is_the_way_of_a_callback(redis_server: RedisServer, tmp_path: Path) -> None:
    walked: list[str] = []

    @handler(ReportEvent)
    def walker(event: ReportEvent) -> None:
        walked.append(event.message_id)

    harness = Harness(redis_server.url, walker)
    with called_functions() as called:
        asyncio.run(post(redis_server.url, tmp_path))
        harness.expand()
        harness.deliver(walker)

    assert walked == ["1"]
    order = list(called)
    for step in STEPS:
        assert step in called, f"{':'.join(step)} is not called"
    assert sorted(STEPS, key=order.index) == STEPS, "the order is another"


async def post(redis_url: str, folder: Path) -> None:
    environment = {
        "REDIS_URL": redis_url,
        "CALLBACKS_TOKENS": f"walk={TOKEN}",
        "CALLBACKS_ALLOWED_IPS": "127.0.0.1",
        "CALLBACKS_SPOOL_DIR": str(folder / "spool"),
    }
    app = create_app(settings.load(environment))
    body = {"data": [{"message_id": "1", "status": "DELIVRD"}]}
    async with app.router.lifespan_context(app):
        transport = httpx.ASGITransport(app=app, client=("127.0.0.1", 1))
        async with httpx.AsyncClient(transport=transport, base_url="http://walk") as client:
            answer = await client.post(f"/callbacks/{TOKEN}/status", json=body)
    assert answer.json() == {"status": "accepted"}


@contextmanager
def called_functions() -> Iterator[dict[tuple[str, str], None]]:
    """Yield the functions of the product that are called, in the order of their first calls."""
    found: dict[tuple[str, str], None] = {}
    root = f"{REPOSITORY}/"

    def record(frame: FrameType, event: str, _argument: Any) -> None:
        name = frame.f_code.co_filename
        if event == "call" and name.startswith(root):
            found.setdefault((name.removeprefix(root), frame.f_code.co_qualname), None)

    sys.setprofile(record)
    threading.setprofile(record)  # fan-out is on a thread of its own
    try:
        yield found
    finally:
        sys.setprofile(None)
        threading.setprofile(None)


def test_it_says_where_to_change_ten_things() -> None:
    assert len(pages.rows(PAGE, "to change", "look at", "and at its tests")) >= 10


@with_blocks(PAGE, "How to run one test")
def test_its_one_test_is_found(blocks: list[Block]) -> None:
    (block,) = blocks
    found = shell(f"{block.text.strip()} --collect-only -q -n 0")

    assert found.returncode == 0, found.stdout
    assert re.search(r"\d+/\d+ tests collected|\d+ tests? collected", found.stdout)
