"""What a page costs to load: at night, over a phone, through a tunnel."""

from collections.abc import Callable

import pytest
from playwright.sync_api import Response

from tests.ops.browser_windows import Opened
from tests.ops.running_service import Service

PAGES = ("/", "/live", "/messages", "/retries", "/dead-letters", "/quarantine", "/actions")
# Itself, its style, its icon, its scripts, and what keeps it up to date.
MAX_REQUESTS = 6
MAX_BYTES = 60_000


@pytest.mark.parametrize("path", PAGES)
def test_a_page_is_a_few_requests_and_kilobytes_and_its_files_are_kept(
    service: Service, window: Opened, path: str, record_property: Callable[[str, object], None]
) -> None:
    opened = window(service.ops_url, empty_cache=True)
    answers: list[Response] = []
    opened.page.on("response", lambda answer: answers.append(answer))  # noqa: PLW0108 # a builtin is none to it
    page = opened.open(path)
    page.wait_for_load_state("load")
    sizes = {answer.url: len(answer.body()) for answer in answers if not answer.url.endswith("/events")}

    record_property(path, f"{len(opened.asked)} requests, {sum(sizes.values())} bytes, itself {sizes[page.url]}")
    assert len(opened.asked) <= MAX_REQUESTS
    assert sum(sizes.values()) <= MAX_BYTES
    kept = {answer.headers["cache-control"] for answer in answers if "/static/" in answer.url}
    assert kept == {"public, max-age=31536000, immutable"}
