"""deploy/nginx and deploy/haproxy: the real proxies, with a real certificate, in front of the real web process."""

import contextlib
import http.client
import json
import os
import re
import shutil
import socket
import ssl
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.acceptance.processes import Running, get, started
from tests.certificates import self_signed
from tests.deploy.deployment import BUNDLE, DEPLOY, TOKEN, environment
from tests.redis_server import RedisServer, free_port

# Whole networks of addresses are this machine: the proxy's, the gateway's, and a stranger's.
PROXY, GATEWAY, STRANGER = "127.0.0.1", "127.0.0.2", "127.0.0.3"
PATH = f"/callbacks/{TOKEN}/status"


@dataclass(frozen=True)
class Proxied:
    """A proxy with TLS at `port`, the web process behind it, and the folder that has all they wrote."""

    port: int
    ca: Path
    web: Running
    web_port: int
    folder: Path

    def post(
        self, source: str, body: bytes = BUNDLE, path: str = PATH, *, direct: bool = False, **headers: str
    ) -> tuple[int, str]:
        tls = ssl.create_default_context(cafile=self.ca)
        connection = (
            http.client.HTTPConnection(PROXY, self.web_port, timeout=30, source_address=(source, 0))
            if direct
            else http.client.HTTPSConnection(PROXY, self.port, timeout=30, source_address=(source, 0), context=tls)
        )
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request("POST", path, body, {"content-type": "application/json", **named})
        answer = connection.getresponse()
        reply = answer.read().decode()
        connection.close()
        return answer.status, reply


def nginx(text: str, folder: Path, pem: Path, port: int, web_port: int) -> list[str]:
    text = (DEPLOY / "nginx" / "requests.conf").read_text() + text
    text = text.replace("/etc/nginx/tls/callbacks.pem", str(pem)).replace("/etc/nginx/tls/callbacks.key", str(pem))
    text = text.replace("/var/log/nginx", str(folder)).replace("80.252.167.60  1;", f"{GATEWAY} 1; {PROXY} 1;")
    text = text.replace("listen 443", f"listen 127.0.0.1:{port}").replace("127.0.0.1:8080", f"127.0.0.1:{web_port}")
    text = text.replace("client_header_timeout 15s", "client_header_timeout 1s")
    own = "".join(
        f"{kind}_temp_path {folder / kind};\n" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    user = "user root;\n" if os.getuid() == 0 else ""
    conf = folder / "nginx.conf"
    conf.write_text(
        f"{user}daemon off;\npid {folder / 'pid'};\nerror_log stderr warn;\nevents {{}}\nhttp {{\n{own}{text}}}\n"
    )
    return [str(shutil.which("nginx") or "nginx"), "-p", str(folder), "-c", str(conf)]


def haproxy(text: str, folder: Path, pem: Path, port: int, web_port: int) -> list[str]:
    text = text.replace("/etc/haproxy/callbacks.pem", str(pem)).replace("bind :443", f"bind 127.0.0.1:{port}")
    text = text.replace("127.0.0.1:8080", f"127.0.0.1:{web_port}").replace("http-request 15s", "http-request 1s")
    conf = folder / "haproxy.cfg"
    conf.write_text(text)
    return [str(shutil.which("haproxy") or "haproxy"), "-db", "-f", str(conf)]


PROXIES: dict[str, tuple[str, Callable[..., list[str]]]] = {
    "nginx": ("nginx/callbacks.conf", nginx),
    "haproxy": ("haproxy/haproxy.cfg", haproxy),
}


@pytest.fixture(params=PROXIES)
def proxied(request: pytest.FixtureRequest, redis_server: RedisServer, tmp_path: Path) -> Iterator[Proxied]:
    if shutil.which(request.param) is None:
        pytest.skip(f"no {request.param} on the PATH")
    file, command_of = PROXIES[request.param]
    port, web_port, pem = free_port(), free_port(), self_signed(tmp_path)
    rules = {"CALLBACKS_ALLOWED_IPS": GATEWAY, "CALLBACKS_TRUSTED_PROXIES": PROXY, "CALLBACKS_MAX_BODY_BYTES": "100000"}
    with started(tmp_path, environment(redis_server.url, web_port, tmp_path) | rules) as start:
        web = start("web")
        web.until(lambda: get(f"http://127.0.0.1:{web_port}/readyz")[0] == 200, "readiness")
        program, *arguments = command_of((DEPLOY / file).read_text(), tmp_path, pem, port, web_port)
        front = start(*arguments, command=program)
        front.until(lambda: listens(port), "a proxy that listens")
        yield Proxied(port, pem, web, web_port, tmp_path)
        written = "".join(path.read_text(errors="replace") for path in tmp_path.glob("*.log"))
        assert TOKEN not in written


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex((PROXY, port)) == 0


def test_a_callback_by_https_arrives_with_the_address_of_its_sender(proxied: Proxied) -> None:
    assert proxied.post(GATEWAY) == (200, '{"status":"accepted"}')


def test_a_stranger_is_refused_by_his_own_address(proxied: Proxied) -> None:
    status, reply = proxied.post(STRANGER)

    assert status == 403
    assert STRANGER in json.loads(reply)["detail"]


@pytest.mark.parametrize("forged", [GATEWAY, f"{GATEWAY}, {PROXY}", "junk"])
def test_a_forged_x_forwarded_for_is_not_believed(proxied: Proxied, forged: str) -> None:
    status, reply = proxied.post(STRANGER, X_Forwarded_For=forged)

    assert (status, STRANGER in reply) == (403, True)
    assert proxied.post(STRANGER, direct=True, X_Forwarded_For=GATEWAY)[0] == 403


def test_a_body_that_is_too_large_is_refused_in_the_services_own_words(proxied: Proxied) -> None:
    status, reply = proxied.post(GATEWAY, b" " * 3_000_000)

    assert status == 413
    assert "CALLBACKS_MAX_BODY_BYTES" in reply or "100000" in reply.replace(",", "")


def test_nothing_but_callbacks_is_to_be_had_from_outside(proxied: Proxied) -> None:
    assert proxied.post(GATEWAY, path="/readyz")[0] == 404
    assert proxied.post(GATEWAY, path="/")[0] == 404


def test_a_head_that_does_not_come_is_not_waited_for(proxied: Proxied) -> None:
    tls = ssl.create_default_context(cafile=proxied.ca)
    raw = socket.create_connection((PROXY, proxied.port), timeout=20)
    with raw, tls.wrap_socket(raw, server_hostname=PROXY) as connection:
        connection.sendall(f"POST {PATH} HTTP/1.1\r\nHost: x\r\nX-Slow: ".encode())

        assert connection.recv(1000).split(b" ")[1:2] in ([], [b"408"])


def test_the_log_shows_each_request_without_its_token_and_answers_ask_for_tls(proxied: Proxied) -> None:
    assert proxied.post(GATEWAY)[0] == 200
    assert proxied.post(GATEWAY, path=f"/callbacks/{TOKEN}/status/../x")[0] in (400, 404)
    tls = ssl.create_default_context(cafile=proxied.ca)
    with contextlib.closing(http.client.HTTPSConnection(PROXY, proxied.port, timeout=30, context=tls)) as connection:
        connection.request("GET", "/")
        assert connection.getresponse().getheader("strict-transport-security") == "max-age=31536000"
    proxied.web.until(
        lambda: len(re.findall(rf" {GATEWAY} POST .* ?(200|40[04]) in=\d+", logged(proxied))) == 2, "the log"
    )


def logged(proxied: Proxied) -> str:
    return "".join(path.read_text(errors="replace") for path in proxied.folder.glob("*.log"))


def test_what_the_web_process_does_not_hear_is_not_acknowledged(proxied: Proxied) -> None:
    proxied.web.stop()

    assert proxied.post(GATEWAY)[0] in (502, 503)


def test_nginx_turns_a_stranger_away_who_tries_tokens_and_never_the_gateway(
    redis_server: RedisServer, tmp_path: Path
) -> None:
    if shutil.which("nginx") is None:
        pytest.skip("no nginx on the PATH")
    port, pem = free_port(), self_signed(tmp_path)
    command, *arguments = nginx((DEPLOY / "nginx/callbacks.conf").read_text(), tmp_path, pem, port, free_port())
    tls = ssl.create_default_context(cafile=pem)
    with started(tmp_path, {}) as start:
        start(*arguments, command=command).until(lambda: listens(port), "a proxy that listens")
        found = {}
        for source in (STRANGER, GATEWAY):
            # On one connection, as the limit is five a second, and a busy machine may need longer for five handshakes.
            connection = http.client.HTTPSConnection(PROXY, port, timeout=30, source_address=(source, 0), context=tls)
            statuses = []
            with contextlib.closing(connection):
                for _ in range(40):
                    connection.request("GET", PATH)
                    with connection.getresponse() as answer:
                        statuses.append(answer.status)
                        answer.read()
            found[source] = set(statuses)

    # Nobody listens behind it.
    assert found == {STRANGER: {502, 429}, GATEWAY: {502}}
