"""The page *Now* in a real browser: what it says of a service, to whom, and that it keeps itself up to date."""

import re
import time

from playwright.sync_api import expect

from shared import keys
from tests.ops.browser_windows import PHONE, Opened, assert_everybody_can_use, keep_picture
from tests.ops.running_service import Service


def test_everybody_can_use_it(service: Service, window: Opened) -> None:
    page = window(service.ops_url).open("/")

    expect(page.get_by_text("Updated automatically.")).to_be_visible()
    assert_everybody_can_use(page, "now")


def test_it_says_what_there_is_to_know_of_each_part(service: Service, window: Opened) -> None:
    page = window(service.ops_url).open("/")

    expect(page.get_by_role("heading", level=1)).to_have_text("! Working, with 4 warnings")
    expect(
        page.get_by_role("link", name="4 dead letters of the handler crm in the last hour. Replay or drop.")
    ).to_have_attribute("href", "/dead-letters/crm")
    crm = page.get_by_role("table", name="Handlers").get_by_role("row", name="crm")
    expect(crm.get_by_role("cell")).to_have_text(
        [
            re.compile(r"^\s*✓ active\s*5 of 26 attempts failed.*delivered in p50", re.DOTALL),
            "21",
            "1",
            "1",
            "4",
            "1",
        ]
    )
    expand = page.get_by_role("table", name="Queues").get_by_role("row", name="expand")
    for column in range(3):
        expect(expand.get_by_role("cell").nth(column)).to_have_text("0")
    expect(page.locator("#tiles")).to_contain_text("✓ balances")
    page.locator("#redis summary").click()
    expect(page.locator("#redis").get_by_text("appendfsync")).to_be_visible()
    page.evaluate("replace(target.innerHTML.replaceAll('appendfsync', 'anew').replaceAll(' open=\"\"', ''))")
    expect(page.locator("#redis").get_by_text("anew")).to_be_visible()
    expect(page.locator("#spool")).to_contain_text("✓ empty")


def test_the_chart_says_in_words_what_it_shows(service: Service, window: Opened) -> None:
    page = window(service.ops_url).open("/")

    # A bucket of ten seconds has to end first.
    expect(page.get_by_role("img").first).to_have_accessible_name(
        re.compile("^30 callbacks in the last hour, below 0.1 per")
    )


def test_it_keeps_itself_up_to_date_and_the_focus_where_it_was(service: Service, window: Opened) -> None:
    page = window(service.ops_url).open("/")
    expect(page.get_by_text("Updated automatically.")).to_be_visible()
    page.get_by_role("link", name="2 failures").focus()

    with service.redis.client() as client:
        client.zadd(keys.QUARANTINE, {"made-up": time.time() * 1000})
        try:
            expect(page.get_by_role("link", name="3 failures")).to_be_focused()
        finally:
            client.zrem(keys.QUARANTINE, "made-up")


def test_another_state_changes_title_and_icon_and_is_announced(service: Service, window: Opened) -> None:
    page = window(service.ops_url).open("/")
    expect(page).to_have_title("Now: Working, with 4 warnings · Callbacks")
    expect(page.locator("#announcement")).to_be_empty()
    page.get_by_role("button", name="Pause").click()

    worse = '<section id="summary" data-words="1 problem needs action now" data-icon="/static/icon-bad.svg"></section>'
    page.evaluate("html => replaceAll(html)", worse)

    expect(page).to_have_title("Now: 1 problem needs action now · Callbacks")
    expect(page.locator("#announcement")).to_have_text("1 problem needs action now")
    expect(page.locator("link[rel=icon]")).to_have_attribute("href", "/static/icon-bad.svg")


def test_it_can_be_paused(service: Service, window: Opened) -> None:
    page = window(service.ops_url).open("/")
    page.get_by_role("button", name="Pause").click()
    expect(page.get_by_text("Paused: this is not updated.")).to_be_visible()
    before = page.locator("#asof").inner_text()

    page.wait_for_timeout(5000)
    assert page.locator("#asof").inner_text() == before

    page.get_by_role("button", name="Resume").click()
    expect(page.locator("#asof")).not_to_have_text(before)


def test_it_works_without_a_script_and_asks_again_by_itself(service: Service, window: Opened) -> None:
    opened = window(service.ops_url, size=PHONE, javascript=False)
    page = opened.open("/")

    expect(page.get_by_role("heading", level=1)).to_contain_text("Working, with 4 warnings")
    expect(page.get_by_role("button", name="Pause")).to_be_hidden()
    keep_picture(page, "now phone light no script")
    page.wait_for_url("**/?refresh")


def test_on_a_phone_what_is_zero_takes_no_room_and_trouble_is_first(service: Service, window: Opened) -> None:
    page = window(service.ops_url, size=PHONE).open("/")

    handlers = page.locator("#handlers tbody tr")
    ledger = handlers.filter(has_text="ledger")
    expect(ledger.locator("[data-label='Delivered']")).to_be_visible()
    expect(ledger.locator("[data-label='Dead letters']")).to_be_hidden()
    expect(handlers.filter(has_text="crm").locator("[data-label='Dead letters']")).to_be_visible()
    expect(page.locator("#queues tbody tr").filter(has_text="expand")).to_be_hidden()
    expect(page.get_by_text("2 queues with workers and without jobs not shown.")).to_be_visible()
    page.set_viewport_size({"width": 1280, "height": 900})
    expect(page.locator("#queues tbody tr").filter(has_text="expand")).to_be_visible()
