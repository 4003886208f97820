"""`callbacks dev`: the whole service at hand, with URLs to paste and every event on a line."""

import re
import stat
import urllib.request
from pathlib import Path

import pytest

from tests.acceptance.processes import INTERRUPT, Running, assert_nothing_left, started
from tests.redis_server import free_port, require

HANDLER = """
from callbacks import ReportEvent, handler

@handler(ReportEvent, statuses={"DELIVRD", "DELIVERD"})
def shout(event):
    print("SHOUTED", event.message_id, flush=True)
"""


@pytest.fixture(autouse=True)
def _a_server() -> None:
    require()


def url_in(dev: Running) -> str:
    dev.until(lambda: "callback_url" in dev.output, "the URLs")
    found = re.search(r"callback_url +(https?://\S+)/status", dev.output)
    assert found, dev.output
    return found.group(1)


def test_it_prints_urls_shows_events_calls_handlers_and_stops(tmp_path: Path) -> None:
    (tmp_path / "shouting.py").write_text(HANDLER)
    with started(tmp_path, {"CALLBACKS_HANDLERS": "shouting"}) as start:
        dev = start("dev", "--port", str(free_port()))
        url = url_in(dev)
        assert dev.output.index("Did you mean DELIVRD?") < dev.output.index("The service is running")
        assert f"reply_url     {url}/reply" in dev.output
        page = re.search(r"The operators' page: (http://127\.0\.0\.1:\d+/)", dev.output)
        assert page is not None
        assert dev.output.count(page[1]) == 1
        with urllib.request.urlopen(page[1], timeout=30) as shown:
            assert b"<title>Now" in shown.read()

        gateway = start("simulate", url, "--destinations", "5", "--replies", "2", "--undelivered", "0")
        assert gateway.wait() == 0, gateway.output
        dev.until(lambda: dev.output.count("SHOUTED") >= 5, "the handler")
        dev.until(lambda: len(re.findall(r"^\d\d:\d\d:\d\dZ  reply", dev.output, re.MULTILINE)) == 2, "the replies")
        dev.until(lambda: len(re.findall(r"^\d\d:\d\d:\d\dZ  DELIVRD", dev.output, re.MULTILINE)) == 5, "the reports")

        audit = start("audit")
        assert audit.wait() == 0, audit.output
        assert "this uses the `callbacks dev` in var/dev" in audit.output

        dev.send(INTERRUPT)
        assert dev.wait() == 0, dev.output
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
