"""The pages *Dead letters*, *Quarantine* and *Actions*, and that of a handler, in a real browser: what they show."""

import json
import re
import time

import httpx
import pytest
from playwright.sync_api import expect

from shared import connections, keys
from tests.ops.browser_windows import Opened, assert_everybody_can_use
from tests.ops.running_service import HOSTILE, Service
from tests.web_process import until
from workers.admin.action_log import Action, ActionLog
from workers.admin.bulk_action import BulkActions, RemainingWork


def test_everybody_can_use_each_page(service: Service, window: Opened) -> None:
    at = window(service.ops_url)
    with connections.connect(service.redis.url) as client:
        dead, quarantined = newest(client, keys.dead("crm")), newest(client, keys.QUARANTINE)
        with ActionLog(client).record(Action(who="anna", by="command", what="pause", where="handler:crm")):
            pass
        stopped = half_done(client)
    for name, path in {
        "retries": "/retries",
        "retries filtered to nothing": "/retries?error=nothing+like+it",
        "dead letters": "/dead-letters",
        "dead letters of crm": "/dead-letters/crm",
        "dead letters by error": "/dead-letters/crm/errors",
        "dead letter": f"/dead-letters/crm/{dead}",
        "quarantine": "/quarantine",
        "quarantine filtered to nothing": "/quarantine?error=nothing+like+it",
        "quarantined": f"/quarantine/{quarantined}",
        "handler": "/handlers/crm",
        "handler paused": "/handlers/crm/pause",
        "actions": "/actions",
        "action": f"/actions/{stopped}",
        "not there": "/quarantine/0badc0de",
    }.items():
        assert_everybody_can_use(at.open(path), name)
    page = at.open("/retries")
    page.get_by_role("checkbox").nth(1).check()
    page.get_by_role("group", name="Selected").get_by_role("button", name="Try now…").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Try 1 retry now?")
    assert_everybody_can_use(page, "confirm retry")
    for button in ("Replay…", "Drop…", "Export…"):
        page = at.open("/dead-letters/crm")
        page.get_by_role("checkbox").nth(1).check()
        page.get_by_role("group", name="Selected").get_by_role("button", name=button).click()
        expect(page.get_by_role("heading", level=1)).to_contain_text("1 dead letter of crm")
        assert_everybody_can_use(page, f"confirm {button}")


def newest(client: object, index: str) -> str:
    (member,) = client.zrange(index, -1, -1)  # type: ignore[attr-defined]
    return str(member.decode())


def half_done(client: object) -> str:
    actions = BulkActions(client)  # type: ignore[arg-type]
    work = RemainingWork(task="drop", handler=None, ids=("0badc0de",) * 300)
    one = actions.start(Action(who=HOSTILE, by="page", what="drop", where="quarantine", number=300), work)
    actions.stop(one)
    actions.run(one, is_stopping=bool)
    return one


def test_dead_letters_are_listed_with_what_the_handler_said(service: Service, window: Opened) -> None:
    page = window(service.ops_url).open("/dead-letters")
    row = page.get_by_role("row", name="crm")
    expect(row.get_by_role("cell").nth(0)).to_have_text("4")
    expect(row.get_by_role("cell").nth(1)).to_have_text("0")

    row.get_by_role("link", name="crm", exact=True).click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Dead letters of crm")
    expect(page.get_by_role("row")).to_have_count(1 + 4)
    newest = page.get_by_role("row").nth(1)
    expect(newest.get_by_role("link", name="m-25")).to_have_attribute("href", "/messages?id=m-25")
    expect(newest).to_contain_text(re.compile(r"just now|ago"))
    page.get_by_label("Error contains").fill("NO SUCH customer")
    with page.expect_navigation():
        page.get_by_role("button", name="Filter").click()
    expect(page.get_by_role("row")).to_have_count(1 + 4)
    page.get_by_label("Error contains").fill("something else")
    page.get_by_role("button", name="Filter").click()
    expect(page.get_by_text("There are no more failures with an error that contains something else.")).to_be_visible()


def test_dead_letters_are_counted_by_error_and_exported_masked(service: Service, window: Opened) -> None:
    page = window(service.ops_url).open("/dead-letters/crm")
    page.get_by_role("link", name="Group by error").click()
    row = page.get_by_role("row", name="no such customer")
    expect(row.get_by_role("cell").first).to_have_text("4")
    row.get_by_role("link", name="Show").click()
    expect(page.get_by_label("Error contains")).to_have_value("no such customer")
    expect(page.get_by_role("row")).to_have_count(1 + 4)

    lines = httpx.get(f"{service.ops_url}/dead-letters/crm/export.jsonl", trust_env=False, timeout=30)
    assert lines.headers["content-disposition"] == 'attachment; filename="dead_letters_crm.jsonl"'
    assert [json.loads(line)["error"] for line in lines.text.splitlines()] == ["no such customer"] * 4
    table = httpx.get(f"{service.ops_url}/dead-letters/crm/export.csv", trust_env=False, timeout=30)
    assert table.headers["content-type"] == "text/csv; charset=utf-8"
    assert table.text.startswith("handler,id,died_at,")
    assert httpx.get(f"{service.ops_url}/dead-letters/crm/export.exe", trust_env=False).status_code == 404
    for query in ("error=something+else", "until=1h", "since=2100-01-31"):
        found = httpx.get(f"{service.ops_url}/dead-letters/crm/export.jsonl?{query}", trust_env=False, timeout=30)
        assert (found.status_code, found.text) == (200, ""), query


def test_a_dead_letter_leads_to_its_message_its_handler_and_its_attempts(service: Service, window: Opened) -> None:
    page = window(service.ops_url).open("/dead-letters/crm?error=customer")
    page.get_by_role("row").nth(1).get_by_role("rowheader").get_by_role("link").click()
    main = page.get_by_role("main")
    expect(main.get_by_role("link", name="m-25")).to_have_attribute("href", "/messages?id=m-25")
    expect(main.get_by_role("link", name="crm").last).to_have_attribute("href", "/handlers/crm")
    expect(main.get_by_role("listitem")).to_contain_text(
        [re.compile("attempt 1 of 8:\\s+failed in .*no such customer; given up")]
    )
    main.get_by_role("link", name=re.compile("^[0-9a-f]{24}$")).click()
    expect(page.get_by_role("link", name="dead letter", exact=True)).to_be_visible()
    expect(page.get_by_role("listitem").filter(has_text="ledger:")).to_contain_text("delivered")


def test_failures_are_filtered_by_time(service: Service, window: Opened) -> None:
    page = window(service.ops_url).open("/dead-letters/crm")
    page.get_by_label("Since").fill("1h")
    page.get_by_role("button", name="Filter").click()
    expect(page.get_by_label("Since")).to_have_value(re.compile(r"20\d\d-\d\d-\d\dT[\d:.]+Z"))
    expect(page.get_by_role("row")).to_have_count(1 + 4)
    page.get_by_label("Since").fill("")
    page.get_by_label("Until").fill("1h")
    page.get_by_role("button", name="Filter").click()
    expect(page.get_by_text(re.compile(r"There are no more failures\s+until 20"))).to_be_visible()
    page.goto(f"{service.ops_url}/quarantine?since=2100-01-31&error=JSON")
    expect(page.get_by_text(re.compile("with an error that contains JSON since 2100-01-31"))).to_be_visible()

    page.goto(f"{service.ops_url}/quarantine?since=yesterday")
    expect(page.get_by_role("main")).to_contain_text(
        "'yesterday' is not a time: use 90s, 30m, 2h, 7d or 4w, or 2026-01-31"
    )


def test_hostile_text_stays_text(service: Service, window: Opened) -> None:
    page = window(service.ops_url).open("/dead-letters/crm")
    page.get_by_role("row").nth(1).get_by_role("rowheader").get_by_role("link").click()

    event = page.get_by_label("The event")
    expect(event).to_contain_text("***")
    page.get_by_role("button", name="Show whole numbers and texts").click()
    expect(event).to_contain_text("<script>alert(1)</script><b>U+202Egnp.exeU+200B")
    expect(page.locator("script:not([src]), main b:text('gnp')")).to_have_count(0)

    page.goto(f"{service.ops_url}/quarantine")
    page.get_by_role("link", name=re.compile("^20")).last.click()
    page.get_by_role("button", name="Show the body").click()
    expect(page.get_by_label("Body as received")).to_contain_text("<img src=x onerror=alert(2)>")
    expect(page.locator("main img")).to_have_count(0)


def test_a_body_can_be_had_whole_as_a_file_of_plain_text(service: Service) -> None:
    body = b"<script>alert(1)</script>" + b"\xff\x00" + b"x" * 3_000_000
    with service.redis.client(decode_responses=False) as client:
        entry = newest(client, keys.QUARANTINE)
        before = client.hget(keys.quarantined(entry), "body")
        assert isinstance(before, bytes)
        client.hset(keys.quarantined(entry), "body", body)
        try:
            page = httpx.get(f"{service.ops_url}/quarantine/{entry}", trust_env=False, timeout=30)
            answer = httpx.get(f"{service.ops_url}/quarantine/{entry}/body", trust_env=False, timeout=30)
        finally:
            client.hset(keys.quarantined(entry), "body", before)

    assert len(page.content) < 100_000
    assert "3,000,027 bytes" in page.text
    assert answer.content == body
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    assert answer.headers["content-disposition"] == f'attachment; filename="quarantine-{entry}.txt"'
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "sandbox" in answer.headers["content-security-policy"]


def test_a_dead_letter_of_a_newer_release_is_shown_as_it_is(service: Service, window: Opened) -> None:
    with service.redis.client(decode_responses=False) as client:
        key = keys.dead_letter("crm", newest(client, keys.dead("crm")))
        before = client.hget(key, "event")
        assert isinstance(before, bytes)
        client.hset(key, "event", '["letter", "to nobody"]')
        try:
            page = window(service.ops_url).open("/dead-letters/crm")
            page.get_by_role("row").nth(1).get_by_role("rowheader").get_by_role("link").click()
            page.get_by_role("button", name="Show whole numbers and texts").click()
            expect(page.get_by_label("The event")).to_have_text('["letter", "to nobody"]')
        finally:
            client.hset(key, "event", before)


@pytest.mark.parametrize("path", ["/quarantine", "/dead-letters/crm", "/handlers/crm/pause", "/actions/x"])
@pytest.mark.parametrize("token", ["", "0" * 64])
def test_without_the_token_of_a_form_nothing_is_done(service: Service, path: str, token: str) -> None:
    forms = {
        "/handlers/crm/pause": [""],
        "/actions/x": ["/stop", "/resume"],
    }.get(path, ["/actions", "/confirm"])
    with service.redis.client() as client:
        before = state(client)
        for suffix in forms:
            fields = {"do": "drop-all", "action_id": "0" * 20, "until_ms": "9999999999999", "csrf": token}
            answer = httpx.post(f"{service.ops_url}{path}{suffix}", data=fields, trust_env=False, timeout=30)
            assert answer.status_code == 403, suffix
        assert state(client) == before


def state(client: object) -> list[object]:
    return [
        client.zcard(index)  # type: ignore[attr-defined]
        for index in (keys.QUARANTINE, keys.dead("crm"), keys.ACTIONS)
    ] + [client.exists(keys.paused("crm"))]  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/dead-letters/nobody", 404),
        ("/dead-letters/crm/0badc0de", 404),
        ("/dead-letters/crm/0badc0de/event", 404),
        ("/quarantine/0badc0de/body", 404),
        ("/quarantine?after=nonsense", 400),
        ("/quarantine?kind=nonsense", 400),
        (f"/quarantine?error={'x' * 201}", 400),
        ("/actions?after=nonsense", 400),
        ("/actions/0badc0de", 404),
        ("/handlers/crm/sideways", 404),
        ("/handlers/nobody/pause", 404),
        ("/handlers/nobody", 404),
    ],
)
def test_what_is_not_there_or_not_understood_is_said(service: Service, path: str, status: int) -> None:
    assert httpx.get(f"{service.ops_url}{path}", trust_env=False, timeout=30).status_code == status


def test_the_page_of_a_handler_has_its_rate_its_failures_and_times_and_why_it_is_paused(
    service: Service, window: Opened
) -> None:
    page = window(service.ops_url).open("/")
    page.get_by_role("table", name="Handlers").get_by_role("link", name="crm", exact=True).click()
    main = page.get_by_role("main")
    expect(page.get_by_role("heading", level=1)).to_have_text("Handler crm")

    def has_attempts() -> bool:
        page.reload()
        return "5 of 26 attempts in ten minutes (19 %)" in main.inner_text()

    # The workers push what they count every two seconds, and this page does not update itself.
    until(has_attempts)
    for text in (
        r"attempts per second, mean of ten minutes",
        r"A call takesp50 [\d.]+ m?s, p95 [\d.]+ m?s, p99 [\d.]+ m?s in ten minutes",
        r"From POST to deliveryp50 [\d.]+ m?s, p95 [\d.]+ m?s, p99 [\d.]+ m?s in ten minutes",
        r"21 events",
    ):
        expect(main).to_contain_text(re.compile(text))
    expect(page.get_by_role("link", name="1 scheduled")).to_have_attribute("href", "/retries?handler=crm")
    expect(page.get_by_role("link", name="4", exact=True)).to_have_attribute("href", "/dead-letters/crm")

    with service.redis.client() as client:
        now_ms = int(time.time() * 1000)
        fields = {"by": "handler", "since_ms": now_ms, "until_ms": now_ms + 90_000, "after_ms": 90_000, "times": 1}
        client.hset(keys.paused("crm"), mapping=fields | {"reason": "crm.example answered 503 to +35699000001"})
        try:
            page.reload()
            expect(main).to_contain_text("paused itself")
            expect(main).to_contain_text("crm.example answered 503 to +356*****001")
            expect(main).to_contain_text(re.compile(r"one event, at [\d:]{8} UTC, in 1 min|in \d\d s"))
            expect(page.get_by_role("link", name="Resume crm")).to_be_visible()
        finally:
            client.delete(keys.paused("crm"))
