"""A real Chromium for the operators' page, and what holds for each of its pages, however it is looked at.

Debian's `chromium` is driven by Playwright, which brings none of its own. Every window notes what the console says and
whom the page asks. `SCREENS=build/screens .venv/bin/pytest tests/ops` keeps pictures of the pages, for people.
"""

import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, BrowserContext, Page, Playwright, expect

PHONE: Final = (390, 844)
WIDE: Final = (1280, 900)
# Each size and each colour scheme once: neither changes what the other does.
on_phone_and_screen = pytest.mark.parametrize(
    ("size", "dark"), [(PHONE, False), (WIDE, True)], ids=["light phone", "dark screen"]
)
# No test is about time; two busy cores may need a while.
expect.set_options(timeout=20_000)
# WCAG 2.2, level AA, and what the makers of axe would see beside it.
_RULES: Final = ("wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice")
_SCREENS: Final = os.environ.get("SCREENS")
_NAMES: Final = ("chromium", "chromium-browser", "google-chrome")


def chromium() -> str:
    """Return the path of the browser; skip the test where there is none; in CI (CI=true) that is a failure."""
    found = next(filter(None, map(shutil.which, _NAMES)), None)
    if found is None:
        message = f"none of {', '.join(_NAMES)} is on the PATH"
        if os.environ.get("CI") == "true":
            pytest.fail(message)
        pytest.skip(message)
    return found


def launched(playwright: Playwright) -> Browser:
    """Start it, without a screen. Chromium's sandbox does not work for root, as which containers run tests."""
    arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
    return playwright.chromium.launch(executable_path=chromium(), args=arguments)


class Window:
    """A page of a browser of its own: its cookies are nobody else's. `base` is where the operators' page is."""

    def __init__(self, context: BrowserContext, base: str) -> None:
        self.base = base
        self.context = context
        self.page: Page = context.new_page()
        self.complaints: list[str] = []
        """Errors and warnings of its console, and of its scripts."""
        self.asked: list[str] = []
        """The addresses of all requests."""
        self.page.on("console", lambda said: self._record(said.type, said.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("request", lambda request: self.asked.append(request.url))

    def open(self, path: str) -> Page:
        """Go to a path of the operators' page."""
        self.page.goto(self.base + path)
        return self.page

    def sign_in(self, password: str, name: str = "eva") -> None:
        """Sign in where the page asks for it."""
        self.page.get_by_label("Your name").fill(name)
        self.page.get_by_label("Password").fill(password)
        self.page.get_by_role("button", name="Sign in").click()

    def assert_quiet(self) -> None:
        """Fail if a console complained, or anything was asked of another host."""
        assert self.complaints == []
        assert {urlsplit(url).netloc for url in self.asked} <= {urlsplit(self.base).netloc}

    def _record(self, kind: str, text: str) -> None:
        # The browser's own word for an answer that is not well; which answers are right is for the tests to say.
        if kind in ("error", "warning") and not text.startswith("Failed to load resource"):
            self.complaints.append(text)


Opened = Callable[..., Window]


@contextmanager
def windows(browser: Browser) -> Iterator[Opened]:
    """Return a function that opens windows: `window(base, size=PHONE, dark=True, javascript=False)`; check each."""
    opened: list[Window] = []

    def window(base: str, *, size: tuple[int, int] = WIDE, dark: bool = False, javascript: bool = True) -> Window:
        options: Any = {
            "viewport": {"width": size[0], "height": size[1]},
            "color_scheme": "dark" if dark else "light",
            "java_script_enabled": javascript,
            "reduced_motion": "reduce",
        }
        opened.append(Window(browser.new_context(**options), base))
        return opened[-1]

    try:
        yield window
        for one in opened:
            one.assert_quiet()
    finally:
        for one in opened:
            one.context.close()


def assert_everybody_can_use(page: Page, name: str) -> None:
    """Fail if axe finds a fault, or the page is wider than its window."""
    keep_picture(page, name)
    rules = {"type": "tag", "values": list(_RULES)}
    # Of the rules that hold axe would describe each element too.
    found = Axe().run(page, options={"runOnly": rules, "resultTypes": ["violations"]})
    faults = [
        f"{fault['id']}: {fault['help']}: {node['html']}: {node['failureSummary']}"
        for fault in found.response["violations"]
        for node in fault["nodes"]
    ]
    assert faults == [], name
    sticks_out = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    assert sticks_out <= 0, f"{name}: {sticks_out} pixels wider than the window"


def keep_picture(page: Page, name: str) -> None:
    """Keep what `page` shows, from top to bottom, as NAME.png, if SCREENS names a folder for it."""
    if _SCREENS:
        file = Path(_SCREENS) / f"{re.sub(r'[^a-z0-9]+', '-', name.lower())}.png"
        page.screenshot(path=file, full_page=True)  # Playwright makes the folder
