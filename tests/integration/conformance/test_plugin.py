"""The plugin for pytest, in a project of somebody else's: its fixtures are there, and cost nothing where unused."""

import subprocess
import sys
from pathlib import Path

import pytest

from callbacks import own_packages, pytest_plugin, samples

pytest_plugins = ["pytester"]

HANDLERS = """
    import asyncio
    from contextlib import contextmanager
    from callbacks import Pause, Reject, ReplyEvent, ReportEvent, Retry, handler

    CALLS = []
    OPEN = []

    @handler(ReportEvent, statuses={"UNDELIV", "SEEN", "DELIVRD", "EXPIRED", "DELETED"})
    def decide(event):
        CALLS.append(event)
        if event.status == "UNDELIV":
            raise Retry(after_seconds=7, reason="later")
        if event.status == "EXPIRED":
            raise Reject("never")
        if event.status == "DELETED":
            raise Pause(after_seconds=9, reason="away")
        if event.status == "SEEN":
            raise ValueError("seen")

    @handler(ReportEvent, batch=True)
    def together(events):
        CALLS.append([event.status for event in events])
        if any(event.status == "SEEN" for event in events):
            raise ValueError("seen")

    @contextmanager
    def opened():
        OPEN.append("opened")
        yield
        OPEN.append("closed")

    @handler(ReportEvent, ReplyEvent, lifespan=opened)
    async def later(event):
        await asyncio.sleep(0)
        CALLS.append(event.id)
"""


def run(pytester: pytest.Pytester, tests: str, *, passed: int) -> None:
    pytester.makepyfile(handlers=HANDLERS, test_it=tests)
    with pytest.MonkeyPatch.context() as patch:
        # To load the plugins of this project's own tests takes a second.
        patch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
        result = pytester.runpytest_subprocess(
            "-p", "callbacks.pytest_plugin", "-W", "error", "--strict-markers", "--strict-config"
        )
    result.assert_outcomes(passed=passed)


def test_it_returns_what_a_worker_would_make_of_each_event(pytester: pytest.Pytester) -> None:
    tests = """
        import pytest
        from handlers import decide

        @pytest.mark.parametrize(("status", "outcome", "reason", "after_seconds"), [
            ("DELIVRD", "done", "", None),
            ("UNDELIV", "retry", "later", 7),
            ("EXPIRED", "rejected", "never", None),
            ("DELETED", "paused", "away", 9),
            ("SEEN", "failed", "ValueError: seen", None),
            ("REJECTD", "filtered", "", None),
        ])
        def test_outcome(callbacks_report, callbacks_deliver, status, outcome, reason, after_seconds):
            event = callbacks_report(status)
            result = callbacks_deliver(decide, event)
            assert (result.outcome, result.reason, result.after_seconds) == (outcome, reason, after_seconds)
            assert result.event is event
            assert ("decide" in result.traceback) == (outcome == "failed")
    """
    run(pytester, tests, passed=6)


def test_it_splits_a_batch_as_a_worker_does(pytester: pytest.Pytester) -> None:
    tests = """
        from handlers import CALLS, together

        def test_batch(callbacks_report, callbacks_worker):
            given = [callbacks_report(status) for status in ("DELIVRD", "SEEN", "ACCEPTD")]
            results = callbacks_worker(together).deliver_all(given)
            assert [result.outcome for result in results] == ["done", "failed", "done"]
            assert CALLS == [["DELIVRD", "SEEN", "ACCEPTD"], ["DELIVRD"], ["SEEN"], ["ACCEPTD"]]
    """
    run(pytester, tests, passed=1)


def test_it_calls_nothing_more_after_a_pause(pytester: pytest.Pytester) -> None:
    tests = """
        from handlers import CALLS, decide

        def test_pause(callbacks_report, callbacks_worker):
            given = [callbacks_report(status) for status in ("DELIVRD", "DELETED", "DELIVRD", "ACCEPTD")]
            results = callbacks_worker(decide).deliver_all(given)
            assert [result.outcome for result in results] == ["done", "paused", "paused", "filtered"]
            assert CALLS == given[:2]
    """
    run(pytester, tests, passed=1)


def test_a_handler_is_open_from_its_first_event_to_the_end_of_the_test(pytester: pytest.Pytester) -> None:
    tests = """
        from handlers import OPEN, later

        def test_first(callbacks_report, callbacks_reply, callbacks_deliver):
            assert OPEN == []
            assert callbacks_deliver(later, callbacks_report()).outcome == "done"
            assert callbacks_deliver(later, callbacks_reply("Hello")).outcome == "done"
            assert OPEN == ["opened"]

        def test_second():
            assert OPEN == ["opened", "closed"]
    """
    run(pytester, tests, passed=2)


def test_each_sample_is_a_test_of_its_own_or_only_some(pytester: pytest.Pytester) -> None:
    tests = """
        import pytest
        from callbacks import samples

        def test_all(callbacks_event, request):
            expected = samples.one(request.node.callspec.params["callbacks_event"])
            told = [(event.kind, event.channel, getattr(event, "status", None), getattr(event, "text", None))
                    for event in (callbacks_event, expected)]
            assert told[0] == told[1]

        @pytest.mark.parametrize("callbacks_event", ["seen", "sticker"], indirect=True)
        def test_some(callbacks_event):
            assert getattr(callbacks_event, "status", "SEEN") == "SEEN"

        def test_number():
            assert len(samples.NAMES) == NUMBER
    """
    run(pytester, tests.replace("NUMBER", str(len(samples.NAMES))), passed=len(samples.NAMES) + 3)


def test_a_function_that_is_no_handler_is_named(pytester: pytest.Pytester) -> None:
    tests = """
        import pytest

        def test_no_handler(callbacks_report, callbacks_deliver):
            with pytest.raises(TypeError, match="print.* is not decorated with @handler"):
                callbacks_deliver(print, callbacks_report())
    """
    run(pytester, tests, passed=1)


def test_unused_it_loads_neither_queue_nor_server_nor_database(pytester: pytest.Pytester) -> None:
    tests = """
        import sys

        def test_loaded():
            assert "callbacks.pytest_plugin" in sys.modules
            heavy = {"rq", "redis", "starlette", "uvicorn", "sqlalchemy", "httpx", "orjson", "workers"}
            assert not heavy & sys.modules.keys()
    """
    run(pytester, tests, passed=1)


@pytest.mark.parametrize("how", ["pytest", "python -m pytest"])
def test_a_project_with_workers_of_its_own_tests_them(tmp_path: Path, how: str) -> None:
    (tmp_path / "workers").mkdir()
    (tmp_path / "workers" / "__init__.py").write_text("")
    (tmp_path / "workers" / "tasks.py").write_text("def send(): return 'theirs'")
    (tmp_path / "test_tasks.py").write_text(
        "from workers.tasks import send\n"
        "def test_own(): assert send() == 'theirs'\n"
        "def test_ours(callbacks_report): ...\n"
    )
    python = [sys.executable, "-m", "pytest"] if " " in how else [str(Path(sys.executable).with_name("pytest"))]

    done = subprocess.run([*python, "-q"], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=120)

    assert "2 passed" in done.stdout, done.stdout + done.stderr


def test_a_worker_of_ours_is_refused_in_words_where_workers_is_another_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "workers.testing.worker", None)
    monkeypatch.setattr(own_packages, "find_foreign", lambda _name: Path("shop/workers"))

    with pytest.raises(pytest.UsageError, match="imports shop/workers as 'workers' instead of this service's package"):
        pytest_plugin._worker()
