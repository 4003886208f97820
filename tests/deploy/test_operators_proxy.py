"""deploy/nginx/operators.conf: the real nginx with TLS in front of the real operators' page."""

import shutil
import ssl
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.acceptance.processes import get, started
from tests.certificates import self_signed
from tests.deploy.deployment import DEPLOY, environment
from tests.deploy.test_proxies import listens, nginx
from tests.ops.running_service import PASSWORD
from tests.ops.sign_in import sign_in
from tests.redis_server import RedisServer, free_port


@pytest.fixture
def browser(redis_server: RedisServer, tmp_path: Path) -> Iterator[httpx.Client]:
    """Yield a client that says where its forms come from, as browsers do."""
    if shutil.which("nginx") is None:
        pytest.skip("no nginx on the PATH")
    port, ops_port, pem = free_port(), free_port(), self_signed(tmp_path)
    text = (DEPLOY / "nginx" / "operators.conf").read_text().replace("127.0.0.1:8081", f"127.0.0.2:{ops_port}")
    text = text.replace("/etc/nginx/tls/operators.pem", str(pem)).replace("/etc/nginx/tls/operators.key", str(pem))
    text = text.replace("/var/log/nginx/operators.log", str(tmp_path / "operators.log"))
    rules = {"CALLBACKS_OPS_HOST": "127.0.0.2", "CALLBACKS_OPS_PORT": str(ops_port)}
    rules |= {"CALLBACKS_OPS_PASSWORD": PASSWORD, "CALLBACKS_TRUSTED_PROXIES": "127.0.0.1"}
    rules |= {"CALLBACKS_OPS_TRUSTED_USER_HEADER": "X-Forwarded-User"}
    with started(tmp_path, environment(redis_server.url, free_port(), tmp_path) | rules) as start:
        ops = start("ops")
        ops.until(lambda: get(f"http://127.0.0.2:{ops_port}/livez")[0] == 200, "the operators' page")
        program, *arguments = nginx(text, tmp_path, pem, port, ops_port)
        front = start(*arguments, command=program)
        front.until(lambda: listens(port), "a proxy that listens")
        base = f"https://127.0.0.1:{port}"
        tls = ssl.create_default_context(cafile=pem)
        with httpx.Client(base_url=base, headers={"origin": base}, verify=tls, timeout=30) as client:
            yield client


def test_one_signs_in_and_the_cookie_is_for_https_alone(browser: httpx.Client) -> None:
    # Nobody signs in by a header of one's own.
    assert browser.get("/", headers={"x-forwarded-user": "ann"}).status_code == 303

    signed_in = sign_in(browser)

    assert (signed_in.status_code, signed_in.headers["location"]) == (303, "/")
    assert signed_in.headers["set-cookie"].startswith("__Host-")
    assert browser.get("/").status_code == 200


def test_what_asks_for_no_password_is_not_to_be_had_from_outside(browser: httpx.Client) -> None:
    assert {browser.get(path).status_code for path in ("/metrics", "/audit", "/livez", "/readyz")} == {404}
