"""Who may act on the operators' page, and who may only read: by password, and by a trusted proxy's header."""

import re
from collections.abc import Iterator

import httpx
import pytest

from shared import connections, events, keys
from tests.integration.ops.ops_client import OpsApp, OpsClient, opened
from tests.integration.sql.databases import Database, report
from tests.ops import many_failures
from tests.redis_server import RedisServer
from workers.admin.action_log import ActionLog, LoggedAction

PASSWORD = "correct horse battery"
READ_PASSWORD = "may only look at it"
PROXY = "10.1.2.3"
NUMBER = "35699000001"
MESSAGE = "m-1"


@pytest.fixture
def redis_url(quick_redis: RedisServer) -> str:
    with quick_redis.client() as client:
        many_failures.quarantine(client, 1)
        many_failures.dead_letters(client, "crm", 1, events.encode(report("SEEN", recipient=NUMBER)))
        client.hset(keys.SUBSCRIPTIONS, "crm", "1-")
    return quick_redis.url


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    made = Database(f"sqlite:///{tmp_path_factory.mktemp('roles')}/callbacks.db")
    made.write(report("SEEN", message_id=MESSAGE, recipient=NUMBER, sender="447700900123"))
    yield made
    made.close()


@pytest.fixture
def ops(redis_url: str, database: Database) -> Iterator[OpsApp]:
    with opened(
        redis_url,
        DATABASE_URL=database.url,
        CALLBACKS_OPS_PASSWORD=PASSWORD,
        CALLBACKS_OPS_READ_PASSWORD=READ_PASSWORD,
        CALLBACKS_TRUSTED_PROXIES=PROXY,
        CALLBACKS_OPS_TRUSTED_USER_HEADER="X-Forwarded-User",
        CALLBACKS_OPS_TRUSTED_GROUPS_HEADER="X-Forwarded-Groups",
        CALLBACKS_OPS_ACT_GROUPS="operators, admins",
    ) as app:
        yield app


def logged(redis: RedisServer) -> list[LoggedAction]:
    with connections.connect(redis.url) as client:
        return list(ActionLog(client).list_newest(limit=50).items)


def role(answer: httpx.Response) -> str:
    """Return what a user of this page may do; "none" if the page asks to sign in."""
    if answer.status_code == 303:
        assert answer.headers["location"].startswith("/sign-in")
        return "none"
    assert answer.status_code == 200, answer.text
    return "read" if "(read only)" in answer.text else "act"


def reader(ops: OpsApp) -> OpsClient:
    client = ops.client()
    assert client.sign_in(READ_PASSWORD).status_code == 303
    return client


def actor(ops: OpsApp) -> OpsClient:
    client = ops.client()
    assert client.sign_in(PASSWORD, "adam").status_code == 303
    return client


def test_the_password_says_what_a_user_may_do(ops: OpsApp) -> None:
    assert role(ops.client().get("/actions")) == "none"
    assert role(reader(ops).get("/actions")) == "read"
    assert role(actor(ops).get("/actions")) == "act"
    assert ops.client().sign_in("neither of the two").status_code == 403


PAGES = (
    "/", "/messages", f"/messages?id={MESSAGE}", "/retries", "/dead-letters", "/dead-letters/crm",
    f"/dead-letters/crm/{0:024x}", "/dead-letters/crm/errors", "/quarantine", f"/quarantine/{0:024x}", "/live",
    "/actions", "/handlers/crm",
)  # fmt: skip


# What a page has for those who may act.
BUTTONS = re.compile(r'Replay…|Drop…|Try now…|(Pause|Resume)( crm)?…|[sS]how whole|/confirm|type="checkbox"')


def test_a_reader_sees_each_page_without_a_button_that_acts_and_without_whole_numbers(ops: OpsApp) -> None:
    by_reader, by_actor = reader(ops), actor(ops)
    for path in PAGES:
        answer = by_reader.get(path)
        assert answer.status_code == 200, path
        assert BUTTONS.search(answer.text) is None, path
        assert NUMBER not in answer.text, path
    assert sum(BUTTONS.search(by_actor.get(path).text) is not None for path in PAGES) > len(PAGES) / 2


FORMS = (
    "/quarantine/confirm", "/quarantine/actions", "/dead-letters/crm/confirm", "/dead-letters/crm/actions",
    "/retries/confirm", "/retries/actions", "/handlers/crm/pause", "/handlers/crm/resume",
    "/actions/0123456789abcdef0123/stop", "/actions/0123456789abcdef0123/resume", "/not/yet/there",
)  # fmt: skip


def test_a_reader_gets_403_on_whatever_acts(ops: OpsApp, quick_redis: RedisServer) -> None:
    client = reader(ops)
    for path in FORMS:
        answer = client.submit(path, page="/messages", do="drop-all", number="1", until_ms="1800000000000")
        assert answer.status_code == 403, path
        assert "Nothing was changed" in answer.text, path
    assert logged(quick_redis) == []


@pytest.mark.parametrize("path", ["/handlers/crm/pause", f"/quarantine/{0:024x}/body"])
def test_a_reader_gets_403_on_what_only_leads_to_it(ops: OpsApp, path: str) -> None:
    assert reader(ops).get(path).status_code == 403
    assert actor(ops).get(path).status_code == 200


def test_a_reader_can_search_by_a_number_and_sees_it_masked(ops: OpsApp) -> None:
    answer = reader(ops).submit("/messages", page="/messages", wanted=f"+{NUMBER[:3]} {NUMBER[3:]}")

    assert MESSAGE in answer.text
    assert NUMBER not in answer.text


@pytest.mark.parametrize(
    ("path", "fields"),
    [("/messages", {"wanted": MESSAGE}), ("/messages", {"wanted": NUMBER}), ("/live", {"numbers": "full"})],
)
def test_a_reader_gets_403_on_whole_numbers(
    ops: OpsApp, quick_redis: RedisServer, path: str, fields: dict[str, str]
) -> None:
    assert reader(ops).submit(path, page=path, **{"numbers": "full", **fields}).status_code == 403
    assert logged(quick_redis) == []


def test_whole_numbers_are_masked_until_asked_for_and_each_view_is_in_the_action_log(
    ops: OpsApp, quick_redis: RedisServer
) -> None:
    client = actor(ops)
    masked = client.get(f"/messages?id={MESSAGE}").text
    assert "356*****001" in masked
    assert NUMBER not in masked
    same = client.submit("/messages", page="/messages", same_recipient_as=MESSAGE)
    assert MESSAGE in same.text
    assert NUMBER not in same.text
    assert logged(quick_redis) == []

    assert NUMBER in client.submit("/messages", page="/messages", wanted=MESSAGE, numbers="full").text
    whole = client.submit("/messages", page="/messages", same_recipient_as=MESSAGE, numbers="full")
    assert NUMBER in whole.text
    assert client.submit("/live", page="/live", numbers="full").status_code == 200

    assert sorted((one.who, one.by, one.what, one.where, one.done, one.state) for one in logged(quick_redis)) == [
        ("adam", "page", "view", "live", 0, "done"),
        ("adam", "page", "view", "messages", 2, "done"),
    ]
    listed = client.get("/actions").text
    assert "See whole numbers" in listed
    assert client.get(f"/actions/{logged(quick_redis)[0].action_id}").status_code == 200


@pytest.mark.parametrize(
    ("groups", "expected"),
    [("operators", "act"), ("users,admins", "act"), ("users", "read"), ("", "read"), ("operatorsX", "read")],
)
def test_a_trusted_proxy_names_the_user_and_the_groups_that_may_act(ops: OpsApp, groups: str, expected: str) -> None:
    named = {b"x-forwarded-user": "zo\u00eb@example.com".encode(), b"x-forwarded-groups": groups.encode()}
    answer = ops.client(address=PROXY).request("GET", "/actions", headers=named)

    assert role(answer) == expected
    assert "zo\u00eb@example.com" in answer.text
    assert "Sign out" not in answer.text


def test_what_a_user_of_the_proxy_does_is_logged_under_the_name(ops: OpsApp, quick_redis: RedisServer) -> None:
    client = ops.client(address=PROXY, x_forwarded_user="ann@example.com", x_forwarded_groups="operators")

    assert client.submit("/handlers/crm/pause", page="/handlers/crm/pause").status_code == 303
    assert [(one.who, one.what) for one in logged(quick_redis)] == [("ann@example.com", "pause")]


@pytest.mark.parametrize(
    ("address", "headers"),
    [
        ("10.1.2.4", [("x-forwarded-user", "ann")]),
        ("127.0.0.1", [("x-forwarded-user", "ann"), ("x-forwarded-for", PROXY)]),
        (PROXY, []),
        (PROXY, [("x-forwarded-user", "")]),
        (PROXY, [("x-forwarded-user", "ann"), ("x-forwarded-user", "eva")]),
        (PROXY, [("x-forwarded-user", "a" * 255)]),
        (PROXY, [("x-forwarded-user", "an\u0085n")]),
        (PROXY, [("x_forwarded_user", "ann")]),
    ],
)
def test_the_header_counts_only_once_and_only_from_the_proxy(
    ops: OpsApp, address: str, headers: list[tuple[str, str]]
) -> None:
    as_sent = [(name.encode(), value.encode("latin-1")) for name, value in headers]
    answer = ops.client(address=address).request("GET", "/actions", headers=as_sent)

    assert role(answer) == "none"


def test_groups_that_are_named_twice_give_no_right(ops: OpsApp) -> None:
    twice = [("x-forwarded-user", "ann"), ("x-forwarded-groups", "operators"), ("x-forwarded-groups", "users")]

    assert role(ops.client(address=PROXY).request("GET", "/actions", headers=twice)) == "read"


def test_a_header_alone_is_enough_and_without_groups_each_user_may_act(redis_url: str) -> None:
    with opened(
        redis_url, CALLBACKS_TRUSTED_PROXIES=f"{PROXY},::1", CALLBACKS_OPS_TRUSTED_USER_HEADER="Remote-User"
    ) as ops:
        assert role(ops.client(address=PROXY, remote_user="ann", host="callbacks.example").get("/actions")) == "act"
        stranger = ops.client(host="callbacks.example")
        assert role(stranger.get("/actions")) == "none"
        notice = stranger.get("/sign-in")
        assert notice.status_code == 401
        assert "proxy" in notice.text
