"""One handler's settings, module and files change nothing for other handlers, nor for the expand workers."""

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from shared import keys, queues
from tests.certificates import self_signed
from tests.integration.forward.services import SECRET, Service, says, serving
from tests.integration.harness import Harness, open_harness, statuses
from tests.integration.runtime.pools import Command, until
from tests.redis_server import RedisServer

# A user's own handler, whose module reads what it needs when it is imported.
SHOP = """
import os
from pathlib import Path
from callbacks import ReportEvent, handler

Path(os.environ["SHOP_KEY_FILE"]).read_text()

@handler(ReportEvent, statuses={"DELIVRD"})
def shop(event): ...
"""

Start = Callable[..., Command]


@pytest.fixture
def harness(quick_redis: RedisServer) -> Iterator[Harness]:
    with open_harness(quick_redis.url) as made:
        yield made


@pytest.fixture
def service() -> Iterator[Service]:
    with serving(says(200)) as running:
        yield running


@pytest.fixture
def environment(tmp_path: Path, service: Service) -> dict[str, str]:
    (tmp_path / "shop.py").write_text(SHOP)
    (tmp_path / "key").write_text("k3y")
    (tmp_path / "ca.pem").write_bytes(self_signed(tmp_path).read_bytes())
    return {
        "PYTHONPATH": str(tmp_path),
        "SHOP_KEY_FILE": str(tmp_path / "key"),
        "CALLBACKS_HANDLERS": "log,forward,shop",
        "CALLBACKS_LOG_FILE": str(tmp_path / "events.jsonl"),
        "CALLBACKS_FORWARD_URL": service.url,
        "CALLBACKS_FORWARD_SECRETS": SECRET,
        "CALLBACKS_FORWARD_ALLOW_PRIVATE": "true",
        "CALLBACKS_FORWARD_CA": str(tmp_path / "ca.pem"),
    }


@pytest.fixture
def start(harness: Harness, tmp_path: Path, environment: dict[str, str]) -> Iterator[Start]:
    with ExitStack() as stack:

        def start(*arguments: str, **changed: str) -> Command:
            log = tmp_path / f"{arguments[0]}.log"
            command = Command(harness, log, *arguments, **{**environment, **changed})
            stack.callback(command.end)
            return command

        yield start


def delivered(harness: Harness, handler: str) -> int:
    return next((one.delivered for one in harness.audit().handlers if one.handler == handler), 0)


def waiting(harness: Harness, handler: str) -> int:
    return next((one.waiting for one in harness.audit().handlers if one.handler == handler), 0)


def bring(harness: Harness, *message_ids: str) -> None:
    harness.accept(*statuses(message_ids))


def worker_of(command: Command, queue: str) -> int:
    """Return the pid of the worker of a queue that the supervisor started last."""
    found = [line for line in command.log.splitlines() if f"action=worker_started queue={queue} " in line]
    return int(found[-1].rpartition("pid=")[2])


def test_an_unreadable_file_of_one_handler_does_not_affect_others(
    harness: Harness, start: Start, tmp_path: Path
) -> None:
    start("expand")
    deliver = start("deliver")
    bring(harness, "1", "2")
    until(
        lambda: delivered(harness, "log") == delivered(harness, "forward") == delivered(harness, "shop") == 2,
        "all is delivered",
    )
    whole = (tmp_path / "ca.pem").read_bytes()
    (tmp_path / "ca.pem").write_bytes(b"half writ")
    (tmp_path / "key").rename(tmp_path / "old key")

    for queue in ("deliver-log", "deliver-forward", "deliver-shop"):
        os.kill(worker_of(deliver, queue), signal.SIGKILL)
    bring(harness, "3", "4")

    until(lambda: delivered(harness, "log") == 4, "log's next worker works")
    for handler, cause in (("forward", "CALLBACKS_FORWARD_CA"), ("shop", "FileNotFoundError")):
        words = f"action=worker_misconfigured queue=deliver-{handler} error=\"CALLBACKS_HANDLERS: '{handler}'"
        until(lambda words=words: words in deliver.log, f"{handler}'s says why it does not")  # type: ignore[misc]
        assert cause in deliver.log
    assert deliver.process.poll() is None
    assert (delivered(harness, "forward"), delivered(harness, "shop")) == (2, 2)

    (tmp_path / "ca.pem").write_bytes(whole)
    (tmp_path / "old key").rename(tmp_path / "key")

    until(lambda: delivered(harness, "forward") == delivered(harness, "shop") == 4, "theirs are started again")
    assert deliver.stop() == 0
    assert harness.audit().balances


def test_a_wrong_setting_at_the_start_stops_only_that_handlers_workers_and_loses_no_event(
    harness: Harness, start: Start
) -> None:
    wrong = {"CALLBACKS_FORWARD_SECRETS": "short", "CALLBACKS_HANDLERS": "log,forward"}
    expand, deliver = start("expand", **wrong), start("deliver", **wrong)
    bring(harness, "1", "2")

    until(lambda: delivered(harness, "log") == 2, "log has them")
    until(lambda: "action=worker_misconfigured queue=deliver-forward" in deliver.log, "it is said")
    assert "CALLBACKS_FORWARD_SECRETS" in deliver.log
    assert waiting(harness, "forward") == 2
    assert expand.process.poll() is None
    assert (deliver.stop(), harness.audit().balances) == (0, True)

    start("deliver")

    until(lambda: delivered(harness, "forward") == 2, "what waited is delivered")


def test_expand_workers_need_no_handlers_settings(harness: Harness, start: Start) -> None:
    expand = start("expand", CALLBACKS_FORWARD_CA="/nowhere", CALLBACKS_JSONL_GZIP="perhaps", DATABASE_URL="what?",
                   CALLBACKS_STREAM_MAXLEN="-1", CALLBACKS_LOG_NUMBERS="some",
                   CALLBACKS_HANDLERS="log,forward,jsonl,sql,stream")  # fmt: skip
    bring(harness, "1")

    names = ("log", "forward", "jsonl", "sql", "stream")
    until(lambda: all(waiting(harness, name) == 1 for name in names), "each handler's queue has it")
    assert "unfit" not in expand.log
    assert "unusable" not in expand.log


def test_the_events_of_a_module_that_cannot_be_imported_any_more_wait(
    harness: Harness, start: Start, tmp_path: Path
) -> None:
    expand = start("expand")
    until(lambda: harness.connection.hexists(keys.FILTERS, "shop"), "its filters are remembered")
    assert expand.stop() == 0
    (tmp_path / "key").rename(tmp_path / "old key")

    start("expand")
    deliver = start("deliver")
    bring(harness, "1", "2")

    until(lambda: delivered(harness, "log") == 2, "log has them")
    until(lambda: waiting(harness, "shop") == 2, "they wait for the other")
    for part in ("expand", "deliver"):
        said = (tmp_path / f"{part}.log").read_text()
        assert (
            'action=handler_import_failed entry=shop handlers=shop error="cannot be imported: FileNotFoundError' in said
        )

    (tmp_path / "old key").rename(tmp_path / "key")

    until(lambda: delivered(harness, "shop") == 2, "its workers were tried again")
    assert deliver.stop() == 0


def test_a_module_that_could_never_be_imported_gets_no_events(harness: Harness, start: Start, tmp_path: Path) -> None:
    (tmp_path / "key").unlink()
    expand, deliver = start("expand"), start("deliver")
    bring(harness, "1")

    until(lambda: delivered(harness, "log") == delivered(harness, "forward") == 1, "the others have it")
    for command in (expand, deliver):
        assert "action=handler_import_failed entry=shop handlers=unknown" in command.log
        assert command.stop() == 0


@pytest.mark.parametrize(
    "changed",
    [
        pytest.param({"CALLBACKS_HANDLERS": "shop", "SHOP_KEY_FILE": "/nowhere"}, id="no module"),
        pytest.param({"CALLBACKS_HANDLERS": "forward", "CALLBACKS_FORWARD_CA": "/nowhere"}, id="no settings"),
    ],
)
def test_without_a_usable_handler_the_workers_exit_with_2(start: Start, changed: dict[str, str]) -> None:
    deliver = start("deliver", **changed)

    assert deliver.process.wait(60) == 2
    assert "/nowhere" in deliver.log
    assert "Traceback" not in deliver.log


def test_settings_that_workers_do_not_read_may_be_wrong(harness: Harness, start: Start) -> None:
    others = {
        "CALLBACKS_TOKENS": "/",
        "CALLBACKS_ALLOWED_IPS": "everywhere",
        "CALLBACKS_OPS_PASSWORD": "short",
        "PORT": "http",
        "DATABASE_URL_FILE": "/nowhere",
    }
    start("expand", **others)
    start("deliver", **others)
    bring(harness, "1")

    until(lambda: delivered(harness, "log") == 1, "it is delivered")
    assert harness.connection.llen(keys.rq_queue(queues.EXPAND)) == 0
