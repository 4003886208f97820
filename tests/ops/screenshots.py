"""The pictures of docs/operations.md, taken of a running page: `python -m tests.ops.screenshots URL HANDLER`.

It is to be one with made-up traffic: what a picture shows is seen by all. HANDLER is one that has dead letters.
"""

import sys
from pathlib import Path
from typing import Final

from playwright.sync_api import Page, expect, sync_playwright

from tests.ops.browser_windows import Windows, launched

FOLDER: Final = Path(__file__).parents[2] / "deploy" / "pictures"
_SIZE: Final = (1080, 900)


def main(base: str, handler: str) -> None:
    """Take them."""
    FOLDER.mkdir(exist_ok=True)
    with sync_playwright() as playwright, launched(playwright) as browser, Windows(browser).opened() as window:
        for dark, shade in ((False, "light"), (True, "dark")):
            page = window(base, size=_SIZE, dark=dark).open("/")
            _keep(page, f"now-{shade}")
        _keep(window(base, size=_SIZE).open(f"/dead-letters/{handler}"), "dead-letters-light", high=620)


def _keep(page: Page, name: str, *, high: int | None = None) -> None:
    expect(page.get_by_role("main")).to_be_visible()
    clip = None if high is None else {"x": 0, "y": 0, "width": _SIZE[0], "height": high}
    page.screenshot(path=FOLDER / f"{name}.png", full_page=True, clip=clip)  # type: ignore[arg-type] # a TypedDict of these


if __name__ == "__main__":
    main(*sys.argv[1:])
