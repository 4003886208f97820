"""Every place of the product that starts a task, a thread or a pool of threads is in one table (I10)."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from shared import background

_REPOSITORY: Final = Path(__file__).parents[2]
_PACKAGES: Final = ("callbacks", "ingest", "shared", "workers")
# The names that start one, with the table's word for each.
_CALLS: Final = {
    "create_task": "create_task",
    "ensure_future": "ensure_future",
    "TaskGroup": "TaskGroup",
    "call_later": "call_later",
    "call_at": "call_at",
    "to_thread": "to_thread",
    "run_sync": "to_thread",
    "run_in_threadpool": "to_thread",
    "run_in_executor": "executor",
    "submit": "executor",
    "ThreadPoolExecutor": "executor",
    "ProcessPoolExecutor": "executor",
    "Thread": "Thread",
    "Timer": "Thread",
    "run_in_thread": "Thread",
    "start_new_thread": "Thread",
}
# Those of `shared.background`, with the table's word for each.
_BACKGROUND: Final = {"start_task": "task", "make_thread": "thread", "loop": "loop"}


def test_the_table_names_every_place_and_no_other() -> None:
    documented, found = _documented(), _found()

    assert found - documented == set(), "started, but not in the table"
    assert documented - found == set(), "in the table, but started nowhere"


def _documented() -> set[tuple[str, str]]:
    rows: set[tuple[str, str]] = set()
    text = background.__doc__ or ""
    for module, calls in re.findall(r"^ {4}([a-z_.]+)\n {8}((?:\w+(?:, )?)+): ", text, re.MULTILINE):
        rows |= {(module, call) for call in calls.split(", ")}
    return rows


def _found() -> set[tuple[str, str]]:
    return {
        (".".join(path.relative_to(_REPOSITORY).with_suffix("").parts), call)
        for package in _PACKAGES
        for path in (_REPOSITORY / package).rglob("*.py")
        for call in _calls(ast.parse(path.read_text()))
    }


def _calls(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        name = ast.unparse(node.func)
        last, owner = name.rpartition(".")[2], name.rpartition(".")[0]
        if last in _CALLS:
            yield _CALLS[last]
        elif last in _BACKGROUND and owner.endswith("background"):
            yield _BACKGROUND[last]
