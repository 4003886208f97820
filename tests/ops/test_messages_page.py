"""The page *Messages* in a real browser: found by id or number, with every attempt to deliver it to each handler."""

import importlib.util
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import httpx
import orjson
import pytest
from click.testing import CliRunner
from playwright.sync_api import Page, expect

from callbacks.cli.main import main
from callbacks.ops.pages import message_history
from shared import keys, settings
from tests.ops.browser_windows import Opened, assert_everybody_can_use
from tests.ops.conftest import without_settings
from tests.ops.running_service import HOSTILE, Service, served
from tests.ops.sign_in import client_of, token
from tests.redis_server import RedisServer

JOB = "5fa8f6c9-8f5d-4b5e-9c5f-0f2d6a1c7b11"
LATE_JOB = "0d0f4c1e-7a55-4b8f-8a53-6a3f3d3a9b02"
NUMBER = "35699000001"
LATE_NUMBER = "35699000777"
ORDER = ("ACCEPTD", "DELIVRD", "SEEN")


@pytest.fixture(scope="module")
def known(_session_redis: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """Return a service with the handler sql, which has heard of some messages."""
    with _session_redis.client() as client:
        client.flushall()
    folder = tmp_path_factory.mktemp("known")
    handlers, database = "shop_handlers,sql", f"sqlite:///{folder}/messages.db"
    with (
        without_settings(),
        served(
            folder, _session_redis, CALLBACKS_HANDLERS=handlers, DATABASE_URL=database, CALLBACKS_OVERDUE_SECONDS="1"
        ) as service,
        _session_redis.client() as client,
    ):
        # Of what came before it was noted what a handler is offered, less is known.
        service.ops.until(lambda: "-" in str(client.hget(keys.SUBSCRIPTIONS, "ledger")), "the offer")
        for second, status in enumerate(("ACCEPTD", "DELIVRD", "SEEN")):
            post(service, "m-1", status, second)
        for second, status in enumerate(("ACCEPTD", "REJECTD", "UNDELIV")):
            post(service, "m-2", status, second, client_message_id=HOSTILE, to=f"+{NUMBER[:3]}\u00a0{NUMBER[3:]}")
        late = {"message_id": "m-late", "status": "ACCEPTD", "type": "SMS", "to": LATE_NUMBER}
        jobs = {"client_job_id": f"job {HOSTILE}", "api_job_id": LATE_JOB}
        assert service.post(orjson.dumps(jobs | {"data": [late]})) == 200
        reply = {
            "reply_message_id": "r-1",
            "orig_message_id": "m-1",
            "api_job_id": JOB,
            "from": NUMBER,
            "message": {"text": HOSTILE},
            "channel": "VIBER",
            "timestamp": 1443165300,
        }
        assert service.post(orjson.dumps(reply), "reply") == 200
        service.later = 1
        service.database_url = database
        service.rest()
        yield service


def post(service: Service, message_id: str, status: str, second: int, **more: object) -> None:
    record = {"message_id": message_id, "status": status, "type": "SMS", "to": NUMBER, **more}
    at = {"timestamp": 1443165200 + second, "micro_timestamp": (1443165200 + second) * 1000}
    body = {"api_job_id": JOB, "client_job_id": "spring 2026", "data": [record | at]}
    assert service.post(orjson.dumps(body)) == 200


def find(page: Page, wanted: str) -> None:
    page.get_by_label("ID or phone number").fill(wanted)
    page.get_by_role("button", name="Find").click()


def test_everybody_can_use_each_page(known: Service, window: Opened) -> None:
    at = window(known.ops_url)
    for name, path in {
        "messages": "/messages",
        "message": "/messages?id=m-1",
        "message with trouble": "/messages?id=m-2",
        "messages by status and job": f"/messages?status=UNDELIV&job={JOB}",
        "overdue messages": "/messages?overdue=yes",
        "messages of a job": f"/messages?id={JOB}",
        "no message": "/messages?id=nowhere",
        "jobs": "/jobs",
        "no more jobs": "/jobs?page=2",
    }.items():
        page = at.open(path)
        for summary in page.get_by_text("as received").all():
            summary.click()
        assert_everybody_can_use(page, name)


def test_now_has_the_number_of_overdue_messages_and_leads_to_their_list(known: Service, window: Opened) -> None:
    page = window(known.ops_url).open("/")
    tile = page.locator("#tiles > div", has_text="Messages overdue")

    # They are counted every ten seconds.
    expect(tile.get_by_role("link")).to_have_text("1", timeout=60_000)
    expect(page.locator("#summary")).to_contain_text("messages of the last week")
    tile.get_by_role("link").click()
    rows = page.get_by_role("region", name="Messages found").get_by_role("row")
    expect(rows).to_have_count(2)
    row = rows.nth(1)
    expect(row.get_by_role("rowheader")).to_have_text("m-late")
    expect(row.get_by_role("cell").first).to_have_text("ACCEPTD")
    with httpx.Client(base_url=known.ops_url, timeout=60) as asking:
        assert "\ncallbacks_messages_overdue 1.0\n" in asking.get("/metrics").text


def test_jobs_have_what_became_of_their_messages(known: Service, window: Opened) -> None:
    page = window(known.ops_url).open("/")
    page.get_by_role("navigation", name="Sections").get_by_role("link", name="Jobs").click()

    rows = page.get_by_role("region", name="Jobs").get_by_role("row")
    late, spring = rows.nth(1).get_by_role("cell"), rows.nth(2).get_by_role("cell")
    expect(rows.nth(1).get_by_role("rowheader")).to_contain_text(LATE_JOB)
    assert late.all_inner_texts()[1:] == ["1", "0", "1", "0", "0.0%"]
    expect(rows.nth(2).get_by_role("rowheader")).to_contain_text("spring 2026")
    assert spring.all_inner_texts()[1:] == ["2", "2", "0", "1", "50.0%"]
    rows.nth(2).get_by_role("link", name="spring 2026").click()
    expect(page.get_by_role("region", name="Messages found").get_by_role("row")).to_have_count(3)
    with httpx.Client(base_url=known.ops_url, timeout=60) as asking:
        assert asking.get("/jobs?page=0").status_code == 400


@pytest.mark.parametrize("javascript", [True, False], ids=["scripts", "no scripts"])
def test_messages_are_listed_by_status_and_by_job(known: Service, window: Opened, javascript: bool) -> None:
    page = window(known.ops_url, javascript=javascript).open("/messages")
    listed = page.get_by_role("row").get_by_role("rowheader")
    expect(listed).to_have_text(["m-late", "m-2", "m-1"])

    page.get_by_label("Current status").fill("seen")
    page.get_by_role("button", name="Filter").click()
    expect(listed).to_have_text(["m-1"])
    page.get_by_role("link", name="Show all").click()
    page.get_by_label("Job ID").fill("spring 2026")
    page.get_by_role("button", name="Filter").click()
    expect(listed).to_have_text(["m-2", "m-1"])
    expect(page.get_by_role("main")).to_contain_text("2 messages sent as far as known, 2 final, 0 overdue, 50.0 %")
    page.get_by_label("Show").select_option("yes")
    page.get_by_role("button", name="Filter").click()
    expect(page.get_by_role("main")).to_contain_text("No message matches.")


@pytest.mark.parametrize("query", ["after=x", "after=2026-01-01T00:00:00~m", f"status={'x' * 301}", "after=1~"])
def test_a_list_that_no_page_of_ours_links_is_refused(known: Service, query: str) -> None:
    assert httpx.get(f"{known.ops_url}/messages?{query}", trust_env=False, timeout=30).status_code == 400


@pytest.mark.parametrize("javascript", [True, False], ids=["scripts", "no scripts"])
def test_the_timeline_of_a_message_has_all_that_was_said_of_it(
    known: Service, window: Opened, javascript: bool
) -> None:
    page = window(known.ops_url, javascript=javascript).open("/messages")
    find(page, "m-1")

    expect(page.get_by_role("heading", level=1)).to_have_text("Message m-1")
    expect(page.get_by_role("main")).to_contain_text("SEEN, final on SMS; since 2015-09-25 07:13:22 UTC")
    statuses = page.get_by_role("table", name="Statuses").get_by_role("row")
    expect(statuses.get_by_role("rowheader")).to_have_text([re.compile(f"^{name}as received") for name in ORDER])
    expect(statuses.nth(1)).to_contain_text("2015-09-25 07:13:20")
    statuses.nth(1).get_by_text("as received").click()
    expect(statuses.nth(1).get_by_label("Status 1 as received")).to_contain_text('"micro_timestamp": 1443165200000')
    reply = page.get_by_role("table", name="Replies").get_by_role("row").nth(1)
    expect(reply).to_contain_text("***")
    page.get_by_role("button", name="Show whole numbers").click()
    expect(reply).to_contain_text("U+202Egnp.exe")


def test_it_says_what_became_of_each_event_at_each_handler(known: Service, window: Opened) -> None:
    page = window(known.ops_url).open("/messages?id=m-2")
    statuses = page.get_by_role("table", name="Statuses").get_by_role("row")

    expect(statuses).to_have_count(1 + 3)
    statuses_of = [row.get_by_role("listitem").all_inner_texts() for row in statuses.all()[1:]]
    took = r"[\d-]{10} [\d:]{8} in (less than 1 ms|[\d.]+ m?s)"
    for items in statuses_of:
        assert re.fullmatch(f"ledger: delivered {took}", items[-2])
        assert re.fullmatch(f"sql: delivered {took}", items[-1])
    assert re.fullmatch(f"crm: delivered {took}", statuses_of[0][0])
    expect(statuses.nth(2).get_by_role("listitem").first).to_have_text(
        re.compile(r"crm:\s+dead letter\s+[\d-]{10} [\d:]{8} attempt 1 of 8:\s+failed.*: no such customer; given up on")
    )
    retry = r"crm:\s+failed, attempt 2 of 8 at [\d:]{8}\s+[\d-]{10} [\d:]{8} attempt 1 of 8:\s+failed"
    expect(statuses.nth(3).get_by_role("listitem").first).to_have_text(re.compile(retry))
    expect(statuses.nth(3)).to_contain_text("the handler asked for another attempt; next attempt due")
    statuses.nth(2).get_by_role("link", name="dead letter").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Dead letter of crm")
    expect(page.get_by_label("The event")).to_contain_text('"message_id": "m-2"')


def test_the_command_says_the_same_and_finds_an_event_by_its_id(known: Service) -> None:
    def run(*arguments: str) -> str:
        environment = {"DATABASE_URL": known.database_url, "REDIS_URL": known.redis.url}
        ended = CliRunner(env=environment).invoke(main, ("message", *arguments))
        assert ended.exit_code == 0, ended.output
        return ended.stdout

    text = run("m-2")
    assert len(re.findall(r"ledger       delivered [\dTZ:.-]{24} in ", text)) == 3
    assert re.search(
        r"crm          dead letter\n +[\dTZ:.-]{24}  attempt 1 of 8  failed .*: no such customer; given up", text
    )
    assert re.search(r"the handler asked for another attempt; next attempt due [\dTZ:.-]{24}", text)
    found = orjson.loads(run("m-2", "--json"))["deliveries"]
    dead = next(one for one in found if one["status"] == "dead")
    assert [one["result"] for one in dead["attempts"]] == ["dead"]
    assert {one["handler"] for one in found} == {"crm", "ledger", "sql"}

    of_event = orjson.loads(run(dead["event_id"], "--json"))
    assert [one for one in of_event["deliveries"] if one["handler"] == "crm"] == [dead]
    page = httpx.get(f"{known.ops_url}/messages?id={dead['event_id']}", trust_env=False, timeout=60).text
    assert "attempt 1 of 8" in page
    assert "no such customer" in page


@pytest.mark.parametrize("wanted", [JOB, "spring 2026", f"+356 {NUMBER[3:]}", NUMBER])
def test_all_messages_of_a_job_or_to_a_number_are_found(known: Service, window: Opened, wanted: str) -> None:
    at = window(known.ops_url)
    page = at.open("/messages")
    find(page, wanted)

    links = page.get_by_role("row").get_by_role("link")
    expect(links.filter(has_text="m-1")).to_have_count(1)
    expect(links.filter(has_text="m-2")).to_have_count(1)
    expect(links).to_have_count(2)
    page.get_by_role("link", name="m-1").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Message m-1")
    page.get_by_role("button", name="All messages to this number").click()
    expect(page.get_by_role("heading", level=1)).not_to_have_text("Message m-1")
    expect(links).to_have_count(2)
    assert sorted(links.all_inner_texts()) == ["m-1", "m-2"]
    # A number is sent in a form: it is in no address, so in no log of a proxy.
    assert not [url for url in at.asked if NUMBER[3:] in unquote(url)]


def test_a_hostile_id_is_found_and_stays_text(known: Service, window: Opened) -> None:
    page = window(known.ops_url).open("/messages?id=m-2")
    page.get_by_role("link", name="<script>").click()

    expect(page.get_by_role("heading", level=1)).to_have_text("Message m-2")
    expect(page.locator("main script")).to_have_count(0)


def test_what_only_redis_knows_is_found_there(known: Service, window: Opened) -> None:
    assert known.post(b'{"data": [{"message_id": "m-77"}]}') == 200
    page = window(known.ops_url).open("/messages")
    find(page, "m-77")

    expect(page.get_by_text("contain no such message")).to_be_visible()
    page.get_by_role("link", name="In quarantine").click()
    page.get_by_role("button", name="Show the body").click()
    expect(page.get_by_label("Body as received")).to_contain_text("m-77")


def test_of_a_message_of_which_very_much_was_said_a_page_shows_the_first(known: Service, window: Opened) -> None:
    said = [
        {
            "message_id": "m-many",
            "status": "ACCEPTD",
            "type": "SMS",
            "to": "35699000777",
            "timestamp": 1443165200 + second,
        }
        for second in range(message_history.MAX_EVENTS + 1)
    ]
    assert known.post(orjson.dumps({"data": said[:-1]})) == 200
    known.rest()
    page = window(known.ops_url).open("/messages?id=m-many")
    statuses = page.get_by_role("table", name="Statuses").get_by_role("row")
    expect(statuses).to_have_count(1 + message_history.MAX_EVENTS)
    expect(page.get_by_text("Only the first 200")).to_have_count(0)

    assert known.post(orjson.dumps({"data": said[-1:]})) == 200
    known.rest()
    page.reload()

    expect(page.get_by_text("Only the first 200 statuses and replies")).to_be_visible()
    expect(statuses).to_have_count(1 + message_history.MAX_EVENTS)


def test_where_the_handler_sql_is_not_in_use_it_says_how_to_have_it_and_finds_what_is_in_redis(
    service: Service, window: Opened
) -> None:
    page = window(service.ops_url).open("/messages")
    find(page, "m-20")

    expect(page.get_by_role("heading", name="Message history is not available")).to_be_visible()
    expect(page.get_by_role("main")).to_contain_text("name sql in CALLBACKS_HANDLERS")
    expect(page.get_by_role("link", name="Dead letter of crm")).to_be_visible()
    assert_everybody_can_use(page, "messages without sql")
    # Nor is a file made where none was.
    assert not list(service.folder.rglob("callbacks.db"))


def test_why_a_database_cannot_be_used_is_said_without_its_password(redis_server: RedisServer, tmp_path: Path) -> None:
    url = "postgresql://user:s3cret-pw@127.0.0.1:1/messages"
    with served(tmp_path, redis_server, workers=False, DATABASE_URL=url) as service:
        answer = httpx.get(f"{service.ops_url}/messages?id=m-1", trust_env=False, timeout=60)

        assert answer.status_code == 200
        assert "postgresql://user:***@127.0.0.1:1/messages cannot be used" in answer.text
        assert "s3cret" not in answer.text + service.ops.output


def test_without_the_extra_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    real = importlib.util.find_spec

    def without(name: str, package: str | None = None) -> Any:
        return None if name == "sqlalchemy" else real(name, package)

    for name in [name for name in sys.modules if name.startswith("workers.handlers.sql")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(importlib.util, "find_spec", without)

    found = message_history.find_messages(settings.load({}), "m-1")

    assert found.problem == "SQLAlchemy is not installed: pip install 'fortytwo-callbacks[sql]'"


@pytest.mark.parametrize("query", ["id=x&cursor=quarantine%20nonsense", f"id={'x' * 301}"])
def test_what_is_not_understood_is_said(known: Service, query: str) -> None:
    assert httpx.get(f"{known.ops_url}/messages?{query}", trust_env=False, timeout=30).status_code == 400


@pytest.mark.parametrize(
    "written",
    [
        f"+{NUMBER}",
        f"00{NUMBER}",
        "\u202a+356 99\u2011000\u2013001\u202c",
        "(0)99 000 001",
        f"{NUMBER}12345",
        "٣٥٦٩٩٠٠٠٠٠١",
    ],
    ids=ascii,
)
def test_what_may_be_a_number_comes_into_no_address_however_it_is_written(known: Service, written: str) -> None:
    with client_of(known) as client:
        answer = client.post("/messages", data={"csrf": token(client, "/messages"), "wanted": written})
    assert (answer.status_code, answer.headers.get("location")) == (200, None)


@pytest.mark.parametrize(
    "written", [f"00{NUMBER}", f"\u202a+{NUMBER}\u202c", f"+{NUMBER[:3]}\u2011{NUMBER[3:]}"], ids=ascii
)
def test_a_number_is_found_as_people_and_their_programs_write_it(known: Service, written: str) -> None:
    with client_of(known) as client:
        answer = client.post("/messages", data={"csrf": token(client, "/messages"), "wanted": written})
    assert "m-1" in answer.text


def test_an_id_without_end_is_refused(known: Service) -> None:
    with client_of(known) as client:
        sent = {"csrf": token(client, "/messages"), "wanted": "9" * 100_000}
        assert client.post("/messages", data=sent).status_code == 400
