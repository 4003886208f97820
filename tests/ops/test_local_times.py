"""Times are UTC, and in the viewer's own zone for those who ask for it."""

import re

from playwright.sync_api import Page, expect

from tests.ops.browser_windows import Opened, assert_everybody_can_use
from tests.ops.running_service import Service

# Chromium's own zone is that of the host; this one is half an hour off all others, and has no summer time.
_ZONE = "Asia/Kolkata"


def minutes(text: str) -> int:
    found = re.search(r"(\d\d):(\d\d):\d\d", text)
    assert found is not None
    return int(found[1]) * 60 + int(found[2])


def in_zone(page: Page, zone: str) -> None:
    page.context.new_cdp_session(page).send("Emulation.setTimezoneOverride", {"timezoneId": zone})


def test_times_are_local_if_asked_for_on_each_page_until_asked_otherwise(service: Service, window: Opened) -> None:
    page = window(service.ops_url).open("/dead-letters/crm")
    in_zone(page, _ZONE)
    first = page.locator("tbody time").first
    before = minutes(first.inner_text())
    expect(page.get_by_role("columnheader", name="Failed, UTC")).to_be_visible()

    page.get_by_role("button", name="Local times").click()

    assert (minutes(first.inner_text()) - before) % 1440 == 330
    expect(page.get_by_role("columnheader", name="Failed, local")).to_be_visible()
    assert_everybody_can_use(page, "local times")
    page.goto(f"{service.ops_url}/")
    expect(page.locator("#asof")).to_contain_text(" local.")
    before_update = page.locator("#asof").inner_text()
    expect(page.locator("#asof")).not_to_have_text(before_update)
    expect(page.locator("#asof")).to_contain_text(" local.")

    page.get_by_role("button", name="Local times").click()

    expect(page.locator("#asof")).to_contain_text(" UTC.")


def test_without_a_script_they_are_utc(service: Service, window: Opened) -> None:
    page = window(service.ops_url, javascript=False).open("/")

    expect(page.get_by_role("button", name="Local times")).to_be_hidden()
    expect(page.locator("#asof")).to_contain_text(" UTC.")
