"""What tests of the operators' page stand on: a browser, and a whole service with something to show."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from playwright.sync_api import Browser, sync_playwright

from tests.environment import stripped_environment
from tests.ops import browser_windows
from tests.ops.browser_windows import Opened, Windows
from tests.ops.running_service import PASSWORD, Service, send_some_of_each, served
from tests.redis_server import RedisServer, require


# Not for the session: while it is there an event loop runs in this thread, and other tests want their own.
@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    browser_windows.chromium()
    with sync_playwright() as playwright:
        browser = browser_windows.launched(playwright)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def _windows(browser: Browser) -> Windows:
    return Windows(browser)


@pytest.fixture
def window(_windows: Windows) -> Iterator[Opened]:
    """Return a function that opens a window: `window(service.ops_url, size=PHONE, dark=True, javascript=False)`."""
    with _windows.opened() as opened:
        yield opened


@pytest.fixture(scope="module")
def _module_redis() -> Iterator[RedisServer]:
    require()
    with RedisServer({"maxmemory": "200mb", "maxmemory-policy": "noeviction"}) as server:
        yield server


@pytest.fixture(scope="module")
def service(_module_redis: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """Return a service that has had some traffic of every kind, for all tests of a module; its page has no password."""
    with without_settings(), served(tmp_path_factory.mktemp("service"), _module_redis) as service:
        send_some_of_each(service)
        yield service


@pytest.fixture(scope="module")
def _guarded_service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    require()
    folder = tmp_path_factory.mktemp("guarded")
    with (
        without_settings(),
        RedisServer() as server,
        served(folder, server, workers=False, CALLBACKS_OPS_PASSWORD=PASSWORD) as service,
    ):
        yield service


@pytest.fixture
def guarded(_guarded_service: Service) -> Iterator[Service]:
    """Return a service without workers on an empty Redis, whose page asks for PASSWORD.

    A test may start another process of the page: the next one gets the first.
    """
    service = _guarded_service
    with service.redis.client() as client:
        client.flushall()
    ops, ops_url = service.ops, service.ops_url
    yield service
    service.ops, service.ops_url = ops, ops_url


@contextmanager
def without_settings() -> Iterator[None]:
    """Do for a module what tests/conftest.py does for each test."""
    with pytest.MonkeyPatch.context() as patch:
        for name in set(os.environ) - set(stripped_environment()):
            patch.delenv(name)
        yield
