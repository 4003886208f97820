"""What operators do on the pages *Dead letters* and *Quarantine*, and to a handler, in a real browser.

Each test finds the same to change in a service that is started once.
"""

import itertools
import json
import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Page, expect

from shared import audit, connections, keys
from tests.acceptance.processes import run
from tests.ops import many_failures
from tests.ops.browser_windows import Opened
from tests.ops.conftest import without_settings
from tests.ops.running_service import PASSWORD, Service, served
from tests.redis_server import RedisServer, require
from workers.admin.action_log import ActionLog
from workers.failures.failure_list import QUARANTINE, dead_letters_of
from workers.failures.store import FailureStore
from workers.runtime import pause

# Of the messages that each test has reports of: a second report of one would be a repeat.
_first_numbers = itertools.count(step=4)
with_and_without_scripts = pytest.mark.parametrize("javascript", [True, False], ids=["scripts", "no scripts"])


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
        (strange,), logged_before = client.zrange(keys.QUARANTINE, -1, -1), fresh.ops.output
        client.hset(keys.quarantined(strange.decode()), "error", "something of its own, +356 99000001")
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
def test_a_handler_is_paused_and_resumed(fresh: Service, window: Opened, javascript: bool) -> None:
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


def test_one_box_ticks_all_of_a_page(fresh: Service, window: Opened) -> None:
    page = signed_in(window, fresh, "/dead-letters/crm")
    page.get_by_role("checkbox", name="Select all on this page").check()
    page.get_by_role("group", name="Selected").get_by_role("button", name="Drop…").click()

    expect(page.get_by_role("heading", level=1)).to_have_text("Drop 3 dead letters of crm for good?")
    page.get_by_role("link", name="Cancel").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Dead letters of crm")


def test_without_a_selection_nothing_is_done_and_the_page_says_so(fresh: Service, window: Opened) -> None:
    page = signed_in(window, fresh, "/quarantine?error=%24.data")
    page.get_by_role("group", name="Selected").get_by_role("button", name="Drop…").click()

    expect(page.get_by_role("heading", level=1)).to_have_text("Nothing is selected")
    expect(page.get_by_role("link", name="Back to the list")).to_have_attribute("href", "/quarantine?error=%24.data")
