"""The suite finds each fault of a handler with the right check, and finds none where there is none."""

import ast
import re
from pathlib import Path

import pytest

from tests.integration.conformance import bad_handlers
from workers.testing import conformance

pytest_plugins = ["pytester"]

CASES = {
    name: case
    for name, case in vars(bad_handlers).items()
    if isinstance(case, type) and issubclass(case, bad_handlers.Case) and name.startswith("Test")
}


def test_each_fault_is_found_by_the_right_checks_and_by_no_other(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "300")  # so that the reason is on the line
    source = Path(bad_handlers.__file__).read_text(encoding="utf-8")
    pytester.makepyfile(test_bad=source)
    # What a handler leaves open on purpose is not waited for as long as what may be closing.
    pytester.makeconftest("from workers.testing import open_resources\nopen_resources._WAIT_SECONDS = 1.0")

    output = pytester.runpytest_subprocess("-W", "error", "-rfE", "--tb=no", "-q").stdout.str()

    failed: dict[str, set[str]] = {name: set() for name in CASES}
    for name, check in re.findall(r"^FAILED test_bad\.py::(\w+)::test_(\w+) - Failed: ", output, re.MULTILINE):
        failed[name].add(check)
    assert f"{sum(map(len, failed.values()))} failed" in output  # each for the reason of its check
    assert failed == {name: set(case.caught_by) for name, case in CASES.items()}, output
    # Each check finds at least one of the handlers.
    assert set().union(*failed.values()) == {
        node.name.removeprefix("test_")
        for node in ast.walk(ast.parse(Path(conformance.__file__).read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
    }


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("pass", "TestIt must say which handler it tests: handler = "),
        ("handler = print", "is not decorated with @handler"),
        ("handler = accept", "TestIt must say what its handler has done: def effects"),
    ],
)
def test_what_a_subclass_lacks_is_named(pytester: pytest.Pytester, body: str, message: str) -> None:
    pytester.makepyfile(
        f"""
        from callbacks import ReportEvent, handler
        from callbacks.testing import Conformance

        @handler(ReportEvent)
        def accept(event): ...

        class TestIt(Conformance):
            {body}
        """
    )

    pytester.runpytest_subprocess("-W", "error", "-k", "twice").stdout.fnmatch_lines([f"*{message}*"])
