"""The operators' page warns of a password over plain HTTP, and never redirects to a host that the request names."""

import asyncio
import logging
from dataclasses import replace
from ipaddress import ip_network
from pathlib import Path

import httpx
import pytest
import uvicorn
from click.testing import CliRunner

from callbacks.cli import ops_address
from callbacks.cli.main import main
from callbacks.ops.app import create_app
from shared import logs, settings

PASSWORD = "correct horse battery"
# Nothing listens there, and nothing here needs it.
REDIS = "redis://127.0.0.1:1/0"
ENVIRON = {
    "REDIS_URL": REDIS,
    "CALLBACKS_TOKENS": "acme=a-long-enough-token",
    "CALLBACKS_OPS_PORT": "0",
    "CALLBACKS_OPS_PASSWORD": PASSWORD,
}
WARNING = "is plain HTTP, so others on the network can read the password"
LOADED = settings.load(ENVIRON, process="ops")


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "::ffff:192.0.2.1"])
def test_a_password_on_an_address_that_others_reach_is_a_problem(host: str) -> None:
    assert WARNING in ops_address.plain_http_problem(LOADED, host)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.3.2.1", "::1", "localhost", "two..dots"])
def test_a_loopback_address_and_one_that_cannot_be_found_are_not(host: str) -> None:
    assert ops_address.plain_http_problem(LOADED, host) == ""


def test_without_a_password_or_behind_a_trusted_proxy_there_is_none() -> None:
    assert ops_address.plain_http_problem(replace(LOADED, ops_password=""), "0.0.0.0") == ""
    proxied = replace(LOADED, trusted_proxies=(ip_network("10.0.0.1/32"),))
    assert ops_address.plain_http_problem(proxied, "0.0.0.0") == ""


@pytest.mark.parametrize(("host", "warns"), [("0.0.0.0", True), ("127.0.0.1", False)])
def test_check_and_the_start_of_ops_warn(
    host: str, warns: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(logs, "configure", lambda: None)
    monkeypatch.setattr(uvicorn.Server, "run", lambda _, sockets: sockets[0].close())
    # The test's process keeps its handlers of signals.
    monkeypatch.setattr("callbacks.cli.termination.exit_zero_on_signal", lambda: None)
    environ = {**ENVIRON, "CALLBACKS_OPS_HOST": host}

    with caplog.at_level(logging.WARNING, "callbacks.ops"):
        CliRunner().invoke(main, ["ops"], env=environ, catch_exceptions=False)
    checked = CliRunner().invoke(main, ["check"], env=environ).output

    assert ("action=ops_plain_http" in caplog.text) == warns
    assert (f"! CALLBACKS_OPS_HOST: the operators' page on {host} {WARNING}" in checked) == warns
    assert (ops_address.PLAIN_HTTP_REMEDY in checked) == warns
    assert PASSWORD not in caplog.text + checked


@pytest.mark.parametrize("path", ["/quarantine/", "/messages/", "/metrics/", "/audit/", "/sign-in/", "/live/"])
@pytest.mark.parametrize(("password", "status"), [("", 404), (PASSWORD, 303)])
def test_a_slash_at_the_end_is_not_redirected(path: str, password: str, status: int) -> None:
    async def get() -> httpx.Response:
        transport = httpx.ASGITransport(create_app(replace(LOADED, ops_password=password)))
        # Without a password only a loopback name is answered; that one would be repeated as any other.
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost:1") as client:
            return await client.get(path)

    answer = asyncio.run(get())

    # /metrics/ is not /metrics: it needs a session.
    assert answer.status_code == status
    assert "localhost" not in answer.headers.get("location", "")
