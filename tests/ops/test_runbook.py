"""What to do is one click from what is wrong, in the release that runs, also where no other site can be reached."""

from playwright.sync_api import expect

from callbacks.ops.pages.runbook import runbook_base
from callbacks.ops.status.conditions import CONDITIONS
from shared import settings
from tests.ops.browser_windows import Opened, assert_everybody_can_use
from tests.ops.running_service import Service


def test_each_alert_links_to_its_section_which_everybody_can_read(service: Service, window: Opened) -> None:
    page = window(service.ops_url).open("/")

    page.get_by_role("link", name="What to do: Dead letters").first.click()

    section = page.get_by_role("heading", name="CallbacksDeadLetters", exact=True)
    expect(section).to_be_in_viewport()
    assert_everybody_can_use(page, "runbook")


def test_the_page_has_a_section_for_each_condition(service: Service, window: Opened) -> None:
    page = window(service.ops_url, javascript=False).open("/runbook")

    sections = {one.get_attribute("id") for one in page.locator("main [id]").all()}
    assert {condition.section for condition in CONDITIONS.values()} - sections == set()
    targets = {link.get_attribute("href") or "" for link in page.locator(".runbook a").all()}
    assert all(target[1:] in sections for target in targets if not target.startswith("http"))


def test_a_runbook_of_ones_own_takes_its_place() -> None:
    own = "https://wiki.example.com/callbacks"
    assert runbook_base(settings.load({"CALLBACKS_RUNBOOK_URL": own})) == own
    assert runbook_base(settings.load({})) == "/runbook"
