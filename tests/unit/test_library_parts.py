"""Parts of libraries that the code overrides, calls or writes are in a table, and the installed releases have them."""

import ast
import functools
import re
import tomllib
from collections.abc import Iterator
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

from shared import library_parts
from shared.library_parts import LIBRARIES, Library, MissingPart, Name

REPOSITORY = Path(__file__).parents[2]
PACKAGES = ("callbacks", "ingest", "shared", "workers")
# What SQLAlchemy documents, and the one way to end a process at once.
DOCUMENTED = {"_mapping", "_exit"}


@functools.cache
def sources() -> dict[str, ast.Module]:
    """Return the syntax trees of the service's modules, by name."""
    return {
        ".".join(path.relative_to(REPOSITORY).with_suffix("").parts): ast.parse(path.read_text())
        for package in PACKAGES
        for path in sorted((REPOSITORY / package).rglob("*.py"))
        if path.name not in ("__init__.py", "__main__.py") and "migrations" not in path.parts
    }


def in_table() -> set[str]:
    texts = [text for library in LIBRARIES.values() for text in library.parts.values()]
    return {name for text in texts for name, _ in library_parts.parse_names(text)}


@functools.cache
def own_classes() -> list[tuple[type[Any], list[type[Any]], ast.ClassDef]]:
    """Return the service's classes that inherit from a class of these libraries, with that class."""
    classes = []
    for module, tree in sources().items():
        if not any(imported.partition(".")[0] in LIBRARIES for imported in imports(tree)):
            continue
        for node in tree.body:
            if isinstance(node, ast.ClassDef):
                found = getattr(import_module(module), node.name)
                theirs = [one for one in found.__mro__ if one.__module__.partition(".")[0] in LIBRARIES]
                if theirs and not issubclass(found, BaseException):
                    classes.append((found, theirs, node))
    return classes


def imports(tree: ast.Module) -> Iterator[str]:
    for node in tree.body:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or ""
            # A class of ours may inherit from another of ours.
            if node.module == "ingest.protocol":
                yield "uvicorn"


def test_the_classes_that_inherit_from_a_library_are_found() -> None:
    names = {found.__name__ for found, _, _ in own_classes()}

    assert {"QueueWorker", "HttpProtocol", "PinnedBackend", "WebProcesses", "_Server"} <= names


def test_what_they_override_is_in_the_table() -> None:
    overridden = {
        name
        for found, theirs, _ in own_classes()
        for name in vars(found)
        if not name.startswith(("__", "_abc_", "_is_protocol")) and any(name in vars(one) for one in theirs)
    }

    assert overridden <= in_table()


def test_what_they_use_or_set_of_what_they_inherit_is_in_the_table() -> None:
    used = {
        part.attr
        for _, theirs, node in own_classes()
        for part in ast.walk(node)
        if isinstance(part, ast.Attribute)
        and ast.unparse(part.value) in ("self", "super()")
        and any(library_parts.has_name(one, part.attr) for one in theirs)
    }

    assert {"_stop_requested", "executions", "pipeline"} <= used
    assert {name for name in used if not name.startswith("__")} <= in_table()


def test_every_private_name_that_is_not_ours_is_in_the_table() -> None:
    ours: set[str] = set()
    used: set[str] = set()
    for tree in sources().values():
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                ours.add(node.name)
            elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                ours.add(node.id)
            elif isinstance(node, ast.Attribute) and re.match(r"_[a-z]", node.attr):
                (ours if isinstance(node.ctx, ast.Store) else used).add(node.attr)

    assert used - ours - DOCUMENTED <= in_table()


@pytest.mark.parametrize("name", LIBRARIES)
def test_the_installed_release_has_every_part(name: Name) -> None:
    library_parts.check(name)


@pytest.mark.parametrize("name", LIBRARIES)
def test_the_tested_versions_are_those_of_the_project(name: Name) -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    wanted = [*project["dependencies"], *project["optional-dependencies"]["forward"]]

    assert f"{name}{LIBRARIES[name].versions}" in wanted
    assert re.search(r",<[0-9.]+$", LIBRARIES[name].versions)


@pytest.mark.parametrize(
    ("parts", "missing"),
    [
        ({"rq:SimpleWorker": "_finalize_triumph"}, "SimpleWorker._finalize_triumph"),
        ({"rq:SimpleWorker": "_finalize_success(queue, job)"}, "SimpleWorker._finalize_success(queue, job)"),
        ({"rq:Slave": "work"}, "rq.Slave"),
        ({"rq.gone": "work"}, "rq.gone"),
        ({"rq.utils": "as_prose"}, "rq.utils.as_prose"),
    ],
)
def test_a_missing_part_is_named_with_the_versions_to_install(
    monkeypatch: pytest.MonkeyPatch, parts: dict[str, str], missing: str
) -> None:
    monkeypatch.setitem(LIBRARIES, "rq", Library(">=3.0,<3.1", parts))

    with pytest.raises(MissingPart) as refused:
        library_parts.check("rq")

    assert str(refused.value) == (f"rq {version('rq')} lacks {missing}, which callbacks needs; install rq>=3.0,<3.1")


def test_what_a_function_of_c_calls_its_parameters_is_nothing_to_go_by() -> None:
    # As hiredis.pack_command is with Python 3.13: it has a signature, whose names are not its authors'.
    assert list(library_parts.missing_parts(Library(">=1", {"builtins": "len(cmd)"}))) == []
