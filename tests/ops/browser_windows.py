"""A real Chromium for the operators' page, and what holds for each of its pages, however it is looked at.

Debian's `chromium` is driven by Playwright, which brings none of its own. Every window notes what the console says and
whom the page asks. `SCREENS=build/screens .venv/bin/pytest tests/ops` keeps pictures of the pages, for people.
"""

import os
import re
import shutil
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import pytest
from axe_playwright_python.base import AXE_SCRIPT
from playwright.sync_api import Browser, BrowserContext, Page, Playwright, expect

PHONE: Final = (390, 844)
WIDE: Final = (1280, 900)
# Each size and each colour scheme once: neither changes what the other does.
_DEVICES: Final = (("light phone", PHONE, False), ("dark screen", WIDE, True))
# No test is about time; two busy cores may need a while.
expect.set_options(timeout=20_000)
# WCAG 2.2, level AA, and what the makers of axe would see beside it.
_RULES: Final = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
# Of the rules that hold axe would describe each element too.
_AXE_OPTIONS: Final = {"runOnly": {"type": "tag", "values": _RULES}, "resultTypes": ["violations"]}
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

    def __init__(self, context: BrowserContext) -> None:
        self.base = ""
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

    def clear(self) -> None:
        """Leave the page, and forget all that it was to remember. The operators' page stores nothing but cookies."""
        self.page.goto("about:blank")
        self.context.clear_cookies()
        self.complaints.clear()
        self.asked.clear()

    def _record(self, kind: str, text: str) -> None:
        # The browser's own word for an answer that is not well; which answers are right is for the tests to say.
        if kind in ("error", "warning") and not text.startswith("Failed to load resource"):
            self.complaints.append(text)


Opened = Callable[..., Window]


class Windows:
    """The windows of a browser. A test gets them as if nobody had used them; to open a new one takes a second."""

    def __init__(self, browser: Browser) -> None:
        self._browser = browser
        self._unused: defaultdict[bool, list[Window]] = defaultdict(list)

    @contextmanager
    def opened(self) -> Iterator[Opened]:
        """Yield a function that opens windows: `window(base, size=PHONE, dark=True, javascript=False)`; check each.

        With `empty_cache=True` the window has never loaded a file.
        """
        used: list[tuple[bool, Window]] = []

        def window(
            base: str,
            *,
            size: tuple[int, int] = WIDE,
            dark: bool = False,
            javascript: bool = True,
            empty_cache: bool = False,
        ) -> Window:
            if self._unused[javascript] and not empty_cache:
                one = self._unused[javascript].pop()
            else:
                one = Window(self._browser.new_context(java_script_enabled=javascript))
            used.append((javascript, one))
            one.base = base
            _set_device(one.page, size, dark=dark)
            return one

        try:
            yield window
            for _, one in used:
                one.assert_quiet()
        finally:
            for javascript, one in used:
                one.clear()
                self._unused[javascript].append(one)


def assert_everybody_can_use(page: Page, name: str) -> None:
    """Fail if axe finds a fault, or the page is wider than its window, on a phone or on a dark screen."""
    page.evaluate(AXE_SCRIPT)
    for device, size, dark in _DEVICES:
        _set_device(page, size, dark=dark)
        keep_picture(page, f"{name} {device}")
        violations = page.evaluate("options => axe.run(options).then(found => found.violations)", _AXE_OPTIONS)
        faults = [
            f"{fault['id']}: {fault['help']}: {node['html']}: {node['failureSummary']}"
            for fault in violations
            for node in fault["nodes"]
        ]
        assert faults == [], f"{name}, {device}"
        sticks_out = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        assert sticks_out <= 0, f"{name}, {device}: {sticks_out} pixels wider than the window"


def keep_picture(page: Page, name: str) -> None:
    """Keep what `page` shows, from top to bottom, as NAME.png, if SCREENS names a folder for it."""
    if _SCREENS:
        file = Path(_SCREENS) / f"{re.sub(r'[^a-z0-9]+', '-', name.lower())}.png"
        page.screenshot(path=file, full_page=True)  # Playwright makes the folder


def _set_device(page: Page, size: tuple[int, int], *, dark: bool) -> None:
    page.set_viewport_size({"width": size[0], "height": size[1]})
    page.emulate_media(color_scheme="dark" if dark else "light", reduced_motion="reduce")
