"""The page *Live* in a real browser: events as they pass, those that somebody asks for, and all of it text."""

import re

import pytest
from playwright.sync_api import Page, expect

from tests.ops.browser_windows import PHONE, Opened, assert_everybody_can_use, keep_picture
from tests.ops.running_service import HOSTILE, Service


def listening(page: Page) -> Page:
    expect(page.get_by_text("Listening")).to_be_visible()
    return page


def show_in_full(page: Page) -> Page:
    page.get_by_label("Show whole numbers").check()
    page.get_by_role("button", name="Show").click()
    return listening(page)


def test_everybody_can_use_it(service: Service, window: Opened) -> None:
    page = show_in_full(listening(window(service.ops_url).open("/live")))
    for number, status in enumerate(("ACCEPTD", "DELIVRD", "EXPIRED", "TRADED-IN")):
        service.report(100 + number, status, error_code=number)
    service.reply(100, "Yes, please \N{PILE OF POO}, " + "very " * 100 + "much. \u0634\u0643\u0631\u0627")
    service.reply(101, HOSTILE)

    expect(page.locator("tbody tr").first).to_contain_text("U+202E")
    assert_everybody_can_use(page, "live")


def test_the_newest_is_on_top(service: Service, window: Opened) -> None:
    page = listening(window(service.ops_url).open("/live"))
    for number in (201, 202):
        service.report(number)
        expect(page.get_by_role("row").nth(1)).to_contain_text(f"m-{number}")
    expect(page.get_by_role("row").nth(2)).to_contain_text("m-201")


def test_what_a_stranger_wrote_stays_text(service: Service, window: Opened) -> None:
    page = show_in_full(listening(window(service.ops_url).open("/live")))
    service.reply(300, HOSTILE)

    row = page.get_by_role("row").nth(1)
    expect(row).to_contain_text("<script>alert(1)</script><b>U+202Egnp.exeU+200BU+0007\"'&")
    expect(row.locator("script, b")).to_have_count(0)


def test_numbers_are_masked_unless_somebody_asks(service: Service, window: Opened) -> None:
    page = listening(window(service.ops_url).open("/live"))
    service.report(400)
    expect(page.get_by_role("row").nth(1)).to_contain_text("356*****400")
    assert "35699000400" not in page.content()

    service.reply(401, "Thank you")
    expect(page.get_by_role("row").nth(1)).to_contain_text("***")
    assert "Thank you" not in page.content()

    show_in_full(page)

    expect(page.get_by_role("row").nth(1)).to_contain_text("Thank you")
    expect(page.get_by_role("row").nth(2)).to_contain_text("35699000400")


@pytest.mark.parametrize("javascript", [True, False], ids=["script", "no script"])
@pytest.mark.parametrize(
    ("label", "wanted", "row"),
    [
        ("Kind", "reply", "reply"),
        ("Status", "seen", "m-502"),
        ("Channel", "viber", "m-503"),
        ("Number", "+356 9900-0504", "m-504"),
    ],
)
def test_only_what_is_asked_for_is_shown(
    service: Service, window: Opened, label: str, wanted: str, row: str, *, javascript: bool
) -> None:
    opened = window(service.ops_url, javascript=javascript)
    page = listening(window(service.ops_url).open("/live"))
    service.report(501)
    service.report(502, "SEEN")
    service.report(503, type="VIBER")
    service.report(504)
    service.reply(505, "five")
    expect(page.get_by_role("row").nth(1)).to_contain_text("***")

    page = opened.open("/live")
    control = page.get_by_label(label, exact=True)
    if label == "Kind":
        control.select_option(wanted)
    else:
        control.fill(wanted)
    page.get_by_role("button", name="Show").click()

    expect(page.locator("tbody")).to_contain_text(row)
    expect(page.get_by_text("m-501")).to_have_count(0)
    assert not any("9900" in url for url in opened.asked), "a number stands in an address"


def test_the_list_ends_somewhere(service: Service, window: Opened) -> None:
    page = listening(window(service.ops_url).open("/live"))
    for first in range(600, 850, 50):
        service.reports(range(first, first + 50))
        expect(page.get_by_role("row").nth(1)).to_contain_text(f"m-{first + 49}")
        if first in (650, 750):
            # The feed itself leaves out what comes faster than a hundred a second.
            page.wait_for_timeout(1500)
    expect(page.get_by_role("row")).to_have_count(1 + 200)


def test_paused_it_stands_still_and_catches_up_after(service: Service, window: Opened) -> None:
    page = listening(window(service.ops_url).open("/live"))
    service.report(1101)
    expect(page.get_by_role("row").nth(1)).to_contain_text("m-1101")
    page.get_by_role("button", name="Pause").click()
    other = listening(window(service.ops_url).open("/live"))
    service.report(1102)
    expect(other.get_by_role("row").nth(1)).to_contain_text("m-1102")
    expect(page.get_by_role("row").nth(1)).to_contain_text("m-1101")

    page.get_by_role("button", name="Resume").click()

    expect(page.get_by_role("row").nth(1)).to_contain_text("m-1102")


def test_without_a_script_it_shows_the_newest_and_asks_again_by_itself(service: Service, window: Opened) -> None:
    page = window(service.ops_url, size=PHONE, javascript=False).open("/live")
    service.report(1201)
    expect(page.get_by_role("row").nth(1)).to_contain_text("m-1201")
    expect(page).to_have_url(re.compile(r"/live\?refresh$"))
    keep_picture(page, "live phone light no script")
