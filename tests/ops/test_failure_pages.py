"""The pages *Dead letters*, *Quarantine* and *Actions* in a real browser: what they show, and what one can do there."""

import itertools
import json
import re
import time
from collections.abc import Iterator

import httpx
import pytest
from playwright.sync_api import Page, expect

from shared import audit, connections, keys
from tests.acceptance.processes import run
from tests.ops import many_failures
from tests.ops.browser_windows import Opened, assert_everybody_can_use
from tests.ops.conftest import without_settings
from tests.ops.running_service import HOSTILE, PASSWORD, Service, served
from tests.redis_server import RedisServer, require
from tests.web_process import until
from workers.admin.action_log import Action, ActionLog
from workers.admin.bulk_action import BulkActions, RemainingWork
from workers.failures.failure_list import QUARANTINE, dead_letters_of
from workers.failures.store import FailureStore
from workers.runtime import pause

# Of the messages that each test has reports of: a second report of one would be a repeat.
_first_numbers = itertools.count(step=4)
with_and_without_scripts = pytest.mark.parametrize("javascript", [True, False], ids=["scripts", "no scripts"])


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


# What follows changes things, in a service of which each test finds the same to change.


@pytest.fixture(scope="module")
def _changed_service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    require()
    folder = tmp_path_factory.mktemp("changed")
    with without_settings(), RedisServer() as redis, served(folder, redis, CALLBACKS_OPS_PASSWORD=PASSWORD) as service:
        yield service


@pytest.fixture
def fresh(_changed_service: Service) -> Service:
    """Return a service with three dead letters of crm, two callbacks in quarantine, and no action."""
    service, first = _changed_service, next(_first_numbers)
    with connections.connect(service.redis.url) as client:
        store = FailureStore(client)
        for failures in (QUARANTINE, dead_letters_of("crm")):
            list(store.drop(failures, store.snapshot(failures)))
        client.delete(keys.ACTIONS, *client.scan_iter(f"{keys.ACTIONS}:*"))
    for number in range(first, first + 3):
        service.report(number, "REJECTD")
    service.report(first + 3)
    assert service.post(b'{"data": "nothing"}') == 200
    assert service.post(b'{"data": "neither"}') == 200
    service.rest()
    return service


def signed_in(window: Opened, service: Service, path: str, *, javascript: bool = True, name: str = "anna") -> Page:
    at = window(service.ops_url, javascript=javascript)
    at.open(path)
    at.sign_in(PASSWORD, name)
    expect(at.page.get_by_role("heading", level=1)).not_to_have_text("Sign in")
    return at.page


@with_and_without_scripts
def test_a_replay_goes_to_its_own_handler_alone_and_the_audit_balances(
    fresh: Service, window: Opened, javascript: bool
) -> None:
    with connections.connect(fresh.redis.url) as client:
        before = {handler.handler: handler for handler in audit.run(client).handlers}
        page = signed_in(window, fresh, "/dead-letters/crm", javascript=javascript)
        boxes = page.get_by_role("row").get_by_role("checkbox", name=re.compile("^Select [0-9a-f]{24}$"))
        boxes.nth(0).check()
        boxes.nth(2).check()
        page.get_by_role("group", name="Selected").get_by_role("button", name="Replay…").click()
        expect(page.get_by_role("heading", level=1)).to_have_text("Replay 2 dead letters of crm?")
        expect(page.get_by_role("main")).to_contain_text("and to no other handler")
        assert client.zcard(keys.dead("crm")) == 3
        page.get_by_role("button", name="Replay 2").click()
        expect(page.get_by_role("status")).to_contain_text("2 put back; delivered 0, dead again ")
        fresh.rest()
        page.reload()
        expect(page.get_by_role("status")).to_have_text("2 put back; delivered 0, dead again 2, still waiting 0.")
        expect(page.get_by_role("link", name="2 events failed again")).to_have_attribute("href", "/dead-letters/crm")

        sums = audit.run(client)
        after = {handler.handler: handler for handler in sums.handlers}
        assert sums.balances
        # They failed again, having been tried again, and nobody else heard of it.
        assert (after["crm"].dead, after["crm"].queued) == (3, before["crm"].queued)
        assert after["ledger"] == before["ledger"]
        (logged,) = ActionLog(client).list_newest(limit=9).items
        assert (logged.who, logged.what, logged.where, logged.chosen) == ("anna", "replay", "dead:crm", "2 by id")
        assert (logged.number, logged.done, logged.state) == (2, 2, "done")


@with_and_without_scripts
def test_a_replay_with_a_rate_limit_can_be_watched_stopped_and_resumed(
    fresh: Service, window: Opened, javascript: bool
) -> None:
    page = signed_in(window, fresh, "/dead-letters/crm", javascript=javascript)
    page.get_by_role("group", name="All", exact=True).get_by_role("button", name="Replay…").click()
    page.get_by_label("Rate limit").fill("soon")
    page.get_by_role("button", name="Replay 3").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Replay 3 dead letters of crm?")
    page.get_by_label("Rate limit").fill("1/m")
    page.get_by_role("button", name="Replay 3").click()
    expect(page.get_by_role("status")).to_contain_text("Running: 1 done of 3; about 2 min left. 1 put back;")
    expect(page.get_by_role("main")).to_contain_text("all, at most 1/m")
    page.get_by_role("button", name="Stop").click()
    expect(page.get_by_role("button", name="Resume")).to_be_visible()
    expect(page.get_by_role("status")).to_contain_text("1 put back")


@with_and_without_scripts
def test_what_is_about_to_be_dropped_can_be_exported_first(fresh: Service, window: Opened, javascript: bool) -> None:
    page = signed_in(window, fresh, "/dead-letters/crm", javascript=javascript)
    page.get_by_label("Since").fill("1h")
    page.get_by_role("button", name="Filter").click()
    page.get_by_role("group", name="All that match").get_by_role("button", name="Drop…").click()
    assert len(exported(page, "Export JSON lines")) == 3
    page.get_by_label("Whole numbers, texts and events").check()
    whole = [json.loads(line) for line in exported(page, "Export JSON lines")]
    assert all(line["event"]["recipient"] == line["number"] and line["number"].isdigit() for line in whole)

    page.goto(f"{fresh.ops_url}/dead-letters/crm")
    page.get_by_role("row").nth(1).get_by_role("checkbox").check()
    page.get_by_role("group", name="Selected").get_by_role("button", name="Export…").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Export 1 dead letter of crm?")
    header, line = exported(page, "Export CSV")
    assert header.startswith("handler,id,")
    assert "*" in line

    with connections.connect(fresh.redis.url) as client:
        (action,) = ActionLog(client).list_newest(limit=9).items
    assert (action.who, action.what, action.where, action.done) == ("anna", "export", "dead:crm", 3)
    assert re.fullmatch(r"all, since [\d :-]{16} UTC, until [\d :-]{16} UTC", action.chosen)
    assert action.state == "done"
    page.goto(f"{fresh.ops_url}/actions/{action.action_id}")
    expect(page.get_by_role("heading", level=1)).to_have_text("Export: dead letters of crm")


def exported(page: Page, button: str) -> list[str]:
    with page.expect_download() as download:
        page.get_by_role("button", name=button).click()
    return download.value.path().read_text().splitlines()


@with_and_without_scripts
def test_all_that_match_are_dropped_and_nothing_else(fresh: Service, window: Opened, javascript: bool) -> None:
    with connections.connect(fresh.redis.url) as client:
        strange, logged_before = newest(client, keys.QUARANTINE), fresh.ops.output
        client.hset(keys.quarantined(strange), "error", "something of its own, +356 99000001")
        page = signed_in(window, fresh, "/quarantine", javascript=javascript)
        page.get_by_label("Error contains").fill("of its own, +356 99000001")
        page.get_by_role("button", name="Filter").click()
        page.get_by_role("group", name="All that match").get_by_role("button", name="Drop…").click()
        expect(page.get_by_role("heading", level=1)).to_have_text("Drop 1 quarantined callback for good?")
        expect(page.get_by_role("main")).to_contain_text("of 2 quarantined callbacks in all")
        page.get_by_role("button", name="Drop 1").click()
        expect(page.get_by_role("status")).to_have_text("Done: 1.")

        assert client.zscore(keys.QUARANTINE, strange) is None
        assert client.zcard(keys.QUARANTINE) == 1
        assert audit.run(client).balances
        page.get_by_role("link", name="Actions").click()
        cells = page.get_by_role("row").nth(1).get_by_role("cell")
        chosen = "all with error contains a text of 25 characters"
        expect(cells).to_have_text(["anna", "Drop", "quarantine", chosen, "1", "1", "done"])
    logged = fresh.ops.output[len(logged_before) :]
    assert "action=operator_action_ended" in logged
    assert "99000001" not in logged


def test_what_still_cannot_be_read_stays_and_is_named(fresh: Service, window: Opened) -> None:
    page = signed_in(window, fresh, "/quarantine")
    page.get_by_role("group", name="All", exact=True).get_by_role("button", name="Replay…").click()
    page.get_by_role("button", name="Replay 2").click()

    expect(page.get_by_role("status")).to_have_text("Done: 0; 2 could not be replayed.")
    expect(page.get_by_role("listitem").filter(has_text="$.data")).to_have_count(2)


def test_a_form_that_is_sent_twice_is_one_act(fresh: Service, window: Opened) -> None:
    page = signed_in(window, fresh, "/quarantine")
    page.get_by_role("group", name="All", exact=True).get_by_role("button", name="Drop…").click()
    with page.expect_request("**/actions") as sent:
        page.get_by_role("button", name="Drop 2").click()
    fields = sent.value.post_data
    assert fields is not None
    headers = {"content-type": "application/x-www-form-urlencoded"}
    again = page.request.post(sent.value.url, data=fields, headers=headers)

    expect(page).to_have_url(again.url)
    with connections.connect(fresh.redis.url) as client:
        assert len(ActionLog(client).list_newest(limit=9).items) == 1


def test_while_redis_is_full_it_says_what_makes_room(guarded: Service, window: Opened) -> None:
    with guarded.redis.client() as client:
        many_failures.quarantine(client, 2)
        page = signed_in(window, guarded, "/quarantine")
        page.get_by_role("group", name="All", exact=True).get_by_role("button", name="Drop…").click()
        before = client.config_get("maxmemory")["maxmemory"]
        client.config_set("maxmemory", "1")
        try:
            page.get_by_role("button", name="Drop 2").click()
            expect(page.get_by_role("heading", level=1)).to_have_text("Redis is full, nothing was changed")
            expect(page.get_by_role("main")).to_contain_text("callbacks quarantine drop")
            output = run(
                *("quarantine", "drop", "--all", "--yes"),
                cwd=guarded.folder,
                environment={"REDIS_URL": guarded.redis.url},
            )
            assert (output.returncode, output.stdout) == (0, "dropped: 2\n"), output.stderr
        finally:
            client.config_set("maxmemory", before)


@with_and_without_scripts
def test_a_handler_is_turned_off_and_on(fresh: Service, window: Opened, javascript: bool) -> None:
    with connections.connect(fresh.redis.url) as client:
        page = signed_in(window, fresh, "/dead-letters", javascript=javascript)
        page.get_by_role("link", name="Pause ledger").click()
        assert pause.read_state(client, "ledger") is None
        page.get_by_role("button", name="Pause ledger").click()
        expect(page.get_by_role("heading", level=1)).to_have_text("Handler ledger")
        expect(page.get_by_role("main")).to_contain_text("paused by an operator")
        expect(page.get_by_role("main")).to_contain_text("when it is resumed")
        pausing = pause.read_state(client, "ledger")
        assert pausing is not None
        assert pausing.by == "operator"

        page.get_by_role("link", name="Resume ledger").click()
        page.get_by_role("button", name="Resume ledger").click()
        expect(page.get_by_role("link", name="Pause ledger")).to_be_visible()
        assert pause.read_state(client, "ledger") is None
        assert [(act.what, act.where, act.who) for act in ActionLog(client).list_newest(limit=9).items] == [
            ("resume", "handler:ledger", "anna"),
            ("pause", "handler:ledger", "anna"),
        ]


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


def test_one_box_ticks_all_of_a_page(fresh: Service, window: Opened) -> None:
    page = signed_in(window, fresh, "/dead-letters/crm")
    page.get_by_role("checkbox", name="Select all on this page").check()
    page.get_by_role("group", name="Selected").get_by_role("button", name="Drop…").click()

    expect(page.get_by_role("heading", level=1)).to_have_text("Drop 3 dead letters of crm for good?")
    page.get_by_role("link", name="Cancel").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Dead letters of crm")


def test_to_tick_nothing_is_told(fresh: Service, window: Opened) -> None:
    page = signed_in(window, fresh, "/quarantine?error=%24.data")
    page.get_by_role("group", name="Selected").get_by_role("button", name="Drop…").click()

    expect(page.get_by_role("heading", level=1)).to_have_text("Nothing is selected")
    expect(page.get_by_role("link", name="Back to the list")).to_have_attribute("href", "/quarantine?error=%24.data")
