"""Sign-in to the operators' page: what is closed without it, what a form must send along, and how a session ends."""

import base64
import socket
import time

import httpx
import msgspec
import pytest
from playwright.sync_api import expect

from callbacks.ops.access.sessions import Session, SessionSigner
from tests.acceptance.processes import run
from tests.ops import many_failures
from tests.ops.browser_windows import Opened, assert_everybody_can_use
from tests.ops.running_service import PASSWORD, Service
from tests.ops.sign_in import client_of, sign_in, token
from tests.redis_server import free_port

CONTROLS = "a, button, input, select"
FORM = {"content-type": "application/x-www-form-urlencoded"}


def test_everybody_can_sign_in_and_out(guarded: Service, window: Opened) -> None:
    opened = window(guarded.ops_url)
    page = opened.open("/live")
    opened.sign_in("not the password")
    expect(page.get_by_role("alert")).to_have_text("Wrong password.")
    assert_everybody_can_use(page, "sign in")

    opened.sign_in(PASSWORD)

    expect(page).to_have_url(f"{guarded.ops_url}/live")
    expect(page.get_by_text("eva")).to_be_visible()
    assert_everybody_can_use(page, "live signed in")
    page.get_by_role("button", name="Sign out").click()
    expect(page).to_have_url(f"{guarded.ops_url}/sign-in")
    opened.open("/")
    expect(page.get_by_role("heading", level=1)).to_have_text("Sign in")


def test_everybody_can_read_without_a_right_to_act(guarded: Service, window: Opened) -> None:
    with guarded.redis.client() as client:
        many_failures.quarantine(client, 2)
    guarded.ops = guarded.start_ops(CALLBACKS_OPS_READ_PASSWORD="for those who only read")
    opened = window(guarded.ops_url)
    page = opened.open("/quarantine")
    opened.sign_in("for those who only read")
    expect(page.get_by_text("(read only)")).to_be_visible()
    assert_everybody_can_use(page, "quarantine of a reader")
    page.get_by_role("rowheader").first.get_by_role("link").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Quarantined callback")
    assert_everybody_can_use(page, "quarantined callback of a reader")
    expect(page.get_by_role("main").get_by_role("button")).to_have_count(0)


def test_a_keyboard_is_enough_to_sign_in_and_to_reach_everything(guarded: Service, window: Opened) -> None:
    page = window(guarded.ops_url).open("/")
    for label, words in (("Your name", "eva"), ("Password", PASSWORD)):
        expect(page.get_by_label(label)).to_be_focused()
        page.keyboard.type(words)
        page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect(page.get_by_text("Updated automatically.")).to_be_visible()

    wanted = page.locator("a:visible, button:visible, input:visible, select:visible").count()
    reached = set()
    for _ in range(wanted + 5):
        page.keyboard.press("Tab")
        reached.add(page.evaluate(f"[...document.querySelectorAll({CONTROLS!r})].indexOf(document.activeElement)"))
    assert len(reached - {-1}) == wanted


def test_without_a_session_only_figures_and_health_are_there(guarded: Service) -> None:
    with client_of(guarded) as client:
        assert [client.get(path).status_code for path in ("/metrics", "/audit", "/livez", "/readyz")] == [200] * 4
        for path in ("/", "/live", "/now/events", "/messages", "/nothing"):
            answer = client.get(path)
            assert answer.status_code == 303
            assert answer.headers["location"].startswith("/sign-in")
        assert client.get("/now/events", headers={"accept": "text/event-stream"}).status_code == 401
        assert client.post("/live/events", data={"csrf": token(client)}).status_code == 401


def test_a_session_is_agreed_on_by_all_processes_and_ended_by_a_new_password(guarded: Service) -> None:
    with client_of(guarded) as client:
        assert sign_in(client).status_code == 303
        guarded.start_ops()
        client.base_url = guarded.ops_url
        assert client.get("/live").status_code == 200
        guarded.start_ops(CALLBACKS_OPS_PASSWORD=f"{PASSWORD} changed")
        client.base_url = guarded.ops_url
        assert client.get("/live").status_code == 303


def test_a_copy_of_the_cookie_is_worth_nothing_after_signing_out_in_any_process(guarded: Service) -> None:
    with client_of(guarded) as client, client_of(guarded) as thief:
        sign_in(client)
        stolen = {"cookie": "; ".join(f"{name}={value}" for name, value in client.cookies.items())}
        assert thief.get("/live", headers=stolen).status_code == 200
        assert client.post("/sign-out", data={"csrf": token(client, "/live")}).status_code == 303
        assert thief.get("/live", headers=stolen).status_code == 303
        guarded.start_ops()
        thief.base_url = guarded.ops_url
        thief.cookies.clear()
        assert thief.get("/live", headers=stolen).status_code == 303


def test_signing_in_begins_a_session_that_nobody_knew_before(guarded: Service) -> None:
    with client_of(guarded) as client:
        client.get("/sign-in")
        (before,) = client.cookies.values()
        sign_in(client)
        (after,) = client.cookies.values()
        assert identity(before) != identity(after)


def identity(cookie: str) -> str:
    return msgspec.json.decode(base64.urlsafe_b64decode(cookie.partition(".")[0]), type=Session).identity


def test_a_cookie_that_we_did_not_seal_opens_nothing(guarded: Service) -> None:
    with client_of(guarded) as client:
        sign_in(client)
        ((name, value),) = client.cookies.items()
        content, _, seal = value.partition(".")
        other_content = ("x" if content[0] != "x" else "y") + content[1:]
        other_seal = ("0" if seal[0] != "0" else "1") + seal[1:]
        for forged in (f"{other_content}.{seal}", f"{content}.{other_seal}", content, "", "é.é"):
            client.cookies.clear()
            raw = f"{name}={forged}".encode()
            assert client.get("/live", headers={b"cookie": raw}).status_code == 303, forged


@pytest.mark.parametrize("sent", [{}, {"csrf": ""}, {"csrf": "0" * 64}], ids=["none", "empty", "another"])
def test_a_form_without_its_token_is_refused_and_nothing_is_done(guarded: Service, sent: dict[str, str]) -> None:
    with client_of(guarded) as client:
        sign_in(client)
        assert client.post("/sign-out", data=sent or {"x": "y"}).status_code == 403
        assert client.get("/live").status_code == 200


@pytest.mark.parametrize(
    "headers",
    [{"origin": "https://evil.example"}, {"origin": "null"}, {"sec-fetch-site": "cross-site"}],
    ids=["origin", "no origin", "fetch metadata"],
)
def test_a_form_from_another_site_is_refused_even_with_its_token(guarded: Service, headers: dict[str, str]) -> None:
    with client_of(guarded) as client:
        sign_in(client)
        right = token(client, "/live")
        assert client.post("/sign-out", data={"csrf": right}, headers=headers).status_code == 403
        assert client.post("/sign-out", data={"csrf": right}, headers={"origin": guarded.ops_url}).status_code == 303


@pytest.mark.parametrize(
    ("body", "headers", "status"),
    [
        (b"{}", {"content-type": "application/json"}, 415),
        (b"a" * ((16 << 10) + 1), FORM, 413),
        (b"a&" * 10_001, FORM, 413),
    ],
    ids=["another type", "too large", "too many fields"],
)
def test_what_is_no_form_of_ours_is_refused(
    guarded: Service, body: bytes, headers: dict[str, str], status: int
) -> None:
    with client_of(guarded) as client:
        client.get("/sign-in")
        assert client.post("/sign-in", content=body, headers=headers).status_code == status


def test_who_has_signed_in_may_send_a_longer_form_but_no_endless_one(guarded: Service) -> None:
    with client_of(guarded) as client:
        sign_in(client)
        sent = {"csrf": token(client, "/live"), "unknown": "a" * (512 << 10)}
        assert client.post("/live", data=sent).status_code == 200
        assert client.post("/live", data=sent | {"unknown": "a" * (1 << 20)}).status_code == 413


def test_a_stranger_cannot_send_an_endless_head(guarded: Service) -> None:
    port = int(guarded.ops_url.rpartition(":")[2])
    with socket.create_connection(("127.0.0.1", port), timeout=30) as stranger:
        stranger.sendall(b"GET /sign-in HTTP/1.1\r\nx-endless: " + b"a" * (128 << 10))
        assert stranger.recv(100).startswith(b"HTTP/1.1 431 ")


def test_a_script_that_connects_again_does_not_keep_a_session_from_ending(guarded: Service) -> None:
    sessions = SessionSigner(PASSWORD)
    an_hour_ago = int(time.time()) - 3600
    held = Session("of-eva", "eva", an_hour_ago, an_hour_ago)
    with httpx.Client(base_url=guarded.ops_url, timeout=30) as client:
        cookie = {"cookie": f"{sessions.cookie_name(secure=False)}={sessions.sign(held)}"}
        with client.stream("GET", "/now/events", headers={**cookie, "accept": "text/event-stream"}) as followed:
            assert (followed.status_code, followed.headers.get("set-cookie")) == (200, None)
        assert "set-cookie" not in client.get("/live?refresh", headers=cookie).headers
        assert "set-cookie" in client.get("/live", headers=cookie).headers


def test_too_many_wrong_passwords_have_to_wait_even_with_the_right_one(guarded: Service) -> None:
    guarded.ops = guarded.start_ops()
    with client_of(guarded) as client:
        statuses = [sign_in(client, "wrong").status_code for _ in range(11)]
        assert statuses == [403] * 10 + [429]
        answer = sign_in(client)
        assert answer.status_code == 429
        assert 0 < int(answer.headers["retry-after"]) <= 600
    assert PASSWORD not in guarded.ops.output
    assert "why=too_many_attempts address=127.0.0.1" in guarded.ops.output


@pytest.mark.parametrize("name", ["", "x" * 65, "eva\nmallory", "\u202eeva"])
def test_a_name_is_one_that_a_log_can_show(guarded: Service, name: str) -> None:
    with client_of(guarded) as client:
        assert sign_in(client, name=name).status_code == 422


@pytest.mark.parametrize("wanted", ["//evil.example", "/\\evil.example", "https://evil.example", "/a\nb", "evil"])
def test_one_is_sent_to_a_page_of_ours_and_to_no_other_site(guarded: Service, wanted: str) -> None:
    with client_of(guarded) as client:
        assert sign_in(client, next=wanted).headers["location"] == "/"


def test_behind_a_trusted_proxy_with_https_cookies_are_for_https_alone(guarded: Service) -> None:
    https = {"x-forwarded-proto": "https"}
    with client_of(guarded) as client:
        assert "secure" not in client.get("/sign-in", headers=https).headers["set-cookie"].lower()
        guarded.start_ops(CALLBACKS_TRUSTED_PROXIES="127.0.0.1")
        client.base_url = guarded.ops_url
        kept = client.get("/sign-in", headers=https).headers["set-cookie"]
    assert kept.startswith("__Host-callbacks-")
    assert {"Secure", "HttpOnly", "SameSite=Lax", "Path=/"} <= set(kept.split("; "))


def test_every_answer_keeps_a_browser_from_running_framing_and_keeping_it(guarded: Service) -> None:
    with client_of(guarded) as client:
        for path in ("/sign-in", "/", "/audit", "/metrics", "/static/style.css", "/static/../app.py"):
            headers = client.get(path).headers
            policy = headers["content-security-policy"]
            assert "unsafe" not in policy
            assert {"default-src 'none'", "frame-ancestors 'none'"} <= set(policy.split("; "))
            assert headers["x-content-type-options"] == "nosniff"
            assert headers["referrer-policy"] == "same-origin"
            assert "no-" in headers["cache-control"]


def test_without_a_password_the_page_is_there_by_this_machines_own_names_only(service: Service) -> None:
    port = service.ops_url.rpartition(":")[2]
    with client_of(service) as client:
        for host in ("127.0.0.1", f"localhost:{port}", "[::1]:9000", "LOCALHOST"):
            assert client.get("/live", headers={"host": host}).status_code == 200, host
        for host in ("evil.example", f"evil.example:{port}", "127.0.0.1.evil.example", "localhost.evil", "", "[::2]"):
            assert client.get("/live", headers={"host": host}).status_code == 421, host


def test_without_a_password_forms_need_their_token_too(service: Service) -> None:
    with client_of(service) as client:
        assert client.post("/live", data={"kind": "reply"}).status_code == 403
        assert client.post("/live", data={"kind": "reply", "csrf": token(client, "/live")}).status_code == 200


@pytest.mark.parametrize(
    ("environment", "output"),
    [
        ({}, "CALLBACKS_OPS_PASSWORD is not set, and other machines can reach 0.0.0.0"),
        ({"CALLBACKS_OPS_PASSWORD": "hunter2"}, "CALLBACKS_OPS_PASSWORD: must have 12 to 256 characters"),
    ],
    ids=["no password", "a short one"],
)
def test_it_refuses_to_be_reached_by_others_without_a_good_password(
    service: Service, environment: dict[str, str], output: str
) -> None:
    where = {"REDIS_URL": service.redis.url, "CALLBACKS_OPS_HOST": "0.0.0.0", "CALLBACKS_OPS_PORT": str(free_port())}
    ended = run("ops", cwd=service.folder, environment={**where, **environment})
    assert ended.returncode == 2
    assert output in ended.stderr
    assert "hunter2" not in ended.stderr
