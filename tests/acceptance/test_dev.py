"""`callbacks dev`: the whole service at hand, with URLs to paste and every event on a line."""

import json
import re
import stat
import urllib.request
from pathlib import Path

import pytest

from tests.acceptance.processes import INTERRUPT, Running, assert_nothing_left, started
from tests.redis_server import free_port, require

HANDLERS = """
from callbacks import ReplyEvent, ReportEvent, handler

failed = set()

@handler(ReportEvent, statuses={"DELIVRD", "DELIVERD", "UNDELIV"})
def refund(event):
    if event.status == "UNDELIV" and event.id not in failed:
        failed.add(event.id)
        raise ValueError(f"no such order of {event.recipient}")

@handler(ReplyEvent)
def chat(event):
    print("CHAT", event.text, flush=True)
"""


@pytest.fixture(autouse=True)
def _a_server() -> None:
    require()


def url_in(dev: Running) -> str:
    dev.wait_for_output("Commands such as `callbacks audit`")  # which follow the URLs
    found = re.search(r"callback_url +(https?://\S+)/status", dev.output)
    assert found, dev.output
    return found.group(1)


def post(url: str, message_id: str, status: str) -> None:
    record = {"message_id": message_id, "status": status, "type": "VIBER", "to": "35699000123", "timestamp": 1443165174}
    request = urllib.request.Request(
        f"{url}/status", json.dumps({"data": [record]}).encode(), {"content-type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        assert json.load(answer) == {"status": "accepted"}


def wait_for_line(dev: Running, pattern: str) -> str:
    """Return the line that matches; each begins with a time in UTC."""
    whole = re.compile(rf"^\d\d:\d\d:\d\dZ {pattern}$", re.MULTILINE)
    dev.until(lambda: whole.search(dev.output), repr(pattern))
    found = whole.search(dev.output)
    assert found
    return found[0]


def test_it_prints_urls_and_what_becomes_of_each_event_and_stops(tmp_path: Path) -> None:
    (tmp_path / "orders.py").write_text(HANDLERS)
    with started(tmp_path, {"CALLBACKS_HANDLERS": "orders"}) as start:
        dev = start("dev", "--port", str(free_port()))
        url = url_in(dev)
        assert dev.output.index("Did you mean DELIVRD?") < dev.output.index("The service is running")
        assert f"reply_url     {url}/reply" in dev.output
        page = re.search(r"The operators' page: (http://127\.0\.0\.1:\d+/)", dev.output)
        assert page is not None
        assert dev.output.count(page[1]) == 1
        with urllib.request.urlopen(page[1], timeout=30) as shown:
            assert b"<title>Now" in shown.read()

        for message_id, status in (("1", "DELIVRD"), ("2", "UNDELIV"), ("3", "ACCEPTD")):
            post(url, message_id, status)
        wait_for_line(dev, r"report 1 DELIVRD VIBER → refund ✓ [\d.]+ m?s")
        first = wait_for_line(
            dev, r"report 2 UNDELIV VIBER → refund ✗ ValueError: no such order of 356\*{5}123, again in 1 s"
        )
        wait_for_line(dev, "report 3 ACCEPTD VIBER → no handler wants it")
        wait_for_line(dev, r"report 2 UNDELIV VIBER → refund ✓ [\d.]+ m?s, attempt 2")
        assert "action=event_retried" not in dev.output

        post(url, "2", "UNDELIV")
        wait_for_line(dev, f"report 2 UNDELIV VIBER, repeat of the report at {first[:9]}: not delivered again")

        gateway = start("simulate", url, "--destinations", "2", "--replies", "1", "--undelivered", "0")
        assert gateway.wait() == 0, gateway.output
        wait_for_line(dev, r"reply \S+ .*: .* → chat .*")
        dev.wait_for_output("CHAT ")

        audit = start("audit")
        assert audit.wait() == 0, audit.output
        assert "this uses the `callbacks dev` in var/dev" in audit.output

        dev.send(INTERRUPT)
        assert dev.wait() == 0, dev.output
    assert_nothing_left(tmp_path)


FIRST = """
from callbacks import ReportEvent, handler

@handler(ReportEvent)
def refund(event):
    print("FIRST", event.message_id, flush=True)
"""


def test_with_reload_changed_handlers_take_over_and_broken_ones_do_not(tmp_path: Path) -> None:
    module = tmp_path / "orders.py"
    module.write_text(FIRST)
    (tmp_path / "tokens").write_text("acme=the-token-of-acme")
    # As for production.
    (tmp_path / ".env").write_text("REDIS_URL=redis://127.0.0.1:1/0\nCALLBACKS_TOKENS_FILE=tokens\n")
    with started(tmp_path, {"CALLBACKS_HANDLERS": "orders", "PORT": str(free_port())}) as start:
        dev = start("dev", "--reload")
        url = url_in(dev)
        assert url.endswith("/callbacks/the-token-of-acme")
        assert "REDIS_URL (redis://127.0.0.1:1/0) is not used here" in dev.output
        assert "Handlers: refund\n" in dev.output
        dev.wait_for_output(f"when a .py file changes in {tmp_path}")

        module.write_text("def refund(:\n")
        dev.wait_for_output("✗ CALLBACKS_HANDLERS: 'orders': cannot be imported: SyntaxError:")
        dev.wait_for_output("The workers continue with the code that they have")
        post(url, "1", "DELIVRD")
        dev.wait_for_output("FIRST 1")

        module.write_text(FIRST.replace("FIRST", "SECOND"))
        dev.wait_for_output("The handlers were loaded again.")
        post(url, "2", "DELIVRD")
        dev.wait_for_output("SECOND 2")

        assert dev.stop() == 0
    assert_nothing_left(tmp_path)


def test_its_addresses_stay_the_same_and_the_token_is_its_owners_alone(tmp_path: Path) -> None:
    port, ops_port, urls = free_port(), free_port(), []
    with started(tmp_path, {"CALLBACKS_OPS_PORT": str(ops_port)}) as start:
        for _ in range(2):
            dev = start("dev", "--port", str(port), "--public-url", "https://shop.example.com")
            urls.append((url_in(dev), (tmp_path / "var" / "dev" / "redis-url").read_text()))
            assert f"The operators' page: http://127.0.0.1:{ops_port}/" in dev.output
            assert dev.stop() == 0

    assert urls[0] == urls[1]
    assert urls[0][0].startswith("https://shop.example.com/callbacks/")
    assert urls[0][1].startswith("redis://default:")
    assert stat.S_IMODE((tmp_path / "var" / "dev" / "token").stat().st_mode) == 0o600


NAMED_AS_A_BUILT_IN = """
from callbacks import ReportEvent, handler

@handler(ReportEvent)
def log(event): ...
"""


@pytest.mark.parametrize(
    ("module", "settings", "words"),
    [
        ("import no_such_package\n", {"CALLBACKS_HANDLERS": "orders"}, "no_such_package"),
        (NAMED_AS_A_BUILT_IN, {"CALLBACKS_HANDLERS": "orders"}, "are both named 'log': give one of them another"),
        (
            "",
            {"CALLBACKS_HANDLERS": "sql", "DATABASE_URL": "postgresql://shop:pw@127.0.0.1:1/shop"},
            "✗ DATABASE_URL: ",
        ),
        ("import os\nos._exit(7)\n", {"CALLBACKS_HANDLERS": "orders"}, "ended the process that imported it"),
    ],
    ids=["not importable", "named as a built-in", "no database", "ends the process"],
)
def test_handlers_that_cannot_work_end_it_before_it_says_that_it_runs(
    tmp_path: Path, module: str, settings: dict[str, str], words: str
) -> None:
    (tmp_path / "orders.py").write_text(module)
    with started(tmp_path, settings) as start:
        dev = start("dev", "--port", str(free_port()))

        assert dev.wait() == 1
        assert words in dev.output
        assert "The service is running" not in dev.output
    assert_nothing_left(tmp_path)
