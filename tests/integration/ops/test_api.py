"""`/api`: who gets an answer, what it holds, and how long lists are read page by page."""

import importlib.util
import json
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from click.testing import CliRunner

from callbacks.cli.main import main
from callbacks.ops import api
from shared import connections, keys
from tests.integration.ops.ops_client import OpsApp, OpsClient, opened
from tests.integration.sql.databases import Database, reply, report
from tests.redis_server import RedisServer
from workers.admin.action_log import ActionLog, LoggedAction
from workers.runtime import pause

READ, ACT = "read-secret-of-ci", "act+secret/of~ann=="
TOKENS = f"ci:read={READ}, ann:act={ACT}"
PASSWORD = "correct horse battery"
NUMBER = "35679000123"
JOB = "job-1"
PATHS = ("/api/messages", "/api/messages/m-1", "/api/events", "/api/stats", "/api/jobs", "/api/health", "/api/nothing")


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    made = Database(f"sqlite:///{tmp_path_factory.mktemp('api')}/callbacks.db")
    for number in range(5):
        made.write(
            report("ACCEPTD", seconds=number, message_id=f"m-{number}"),
            report("DELIVRD" if number % 2 else "EXPIRED", seconds=10 + number, message_id=f"m-{number}"),
        )
    made.write(reply("Yes", orig_message_id="m-1"))
    yield made
    made.close()


@pytest.fixture
def ops(quick_redis: RedisServer, database: Database) -> Iterator[OpsApp]:
    with quick_redis.client() as client:
        client.hset(keys.COUNTS, keys.handler_counter("crm", "report", "delivered"), 1)
    with opened(
        quick_redis.url,
        DATABASE_URL=database.url,
        CALLBACKS_HANDLERS="sql",
        CALLBACKS_OPS_PASSWORD=PASSWORD,
        CALLBACKS_OPS_TOKENS=TOKENS,
    ) as app:
        yield app


def bearer(ops: OpsApp, secret: str, *, address: str = "127.0.0.1") -> OpsClient:
    return ops.client(address=address, authorization=f"Bearer {secret}")


def problem(answer: httpx.Response, status: int, name: str) -> dict[str, Any]:
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json"), answer.text
    document: dict[str, Any] = answer.json()
    assert document["type"] == f"urn:problem-type:callbacks:{name}"
    assert document["status"] == status
    assert document["detail"]
    for secret in (READ, ACT, NUMBER):
        assert secret not in answer.text
    return document


def logged(redis: RedisServer) -> list[LoggedAction]:
    with connections.connect(redis.url) as client:
        return list(ActionLog(client).list_newest(limit=50).items)


def printed(database: Database, *arguments: str) -> list[Any]:
    """Return what a command prints as JSON."""
    ended = CliRunner(env={"DATABASE_URL": database.url}).invoke(main, [*arguments, "--json"])
    assert ended.exit_code == 0, ended.output
    return [json.loads(line) for line in ended.stdout.splitlines()]


def test_without_a_token_nothing_is_answered_and_a_session_counts_for_nothing(ops: OpsApp) -> None:
    client = ops.client()
    assert client.sign_in(PASSWORD).status_code == 303
    for path in PATHS:
        answer = client.get(path)
        problem(answer, 401, "unauthorized")
        assert answer.headers["www-authenticate"] == 'Bearer realm="callbacks"'
        assert "set-cookie" not in answer.headers


@pytest.mark.parametrize(
    "header", [f"Bearer {READ}x", "Bearer ", f"Basic {READ}", READ, "Bearer \xff", f"Bearer {READ}, Bearer {ACT}"]
)
def test_a_wrong_token_is_refused(ops: OpsApp, header: str) -> None:
    answer = ops.client().request("GET", "/api/health", headers={b"authorization": header.encode("latin-1")})
    problem(answer, 401, "unauthorized")
    assert 'error="invalid_token"' in answer.headers["www-authenticate"]


def test_of_two_tokens_neither_counts(ops: OpsApp) -> None:
    headers = [("authorization", f"Bearer {ACT}"), ("authorization", f"Bearer {READ}")]
    problem(ops.client().request("GET", "/api/health", headers=headers), 401, "unauthorized")


@pytest.mark.parametrize("query", [f"numbers={NUMBER}", f"kind={NUMBER}", f"{NUMBER}=1", f"limit={NUMBER}"])
def test_a_number_in_the_wrong_parameter_is_not_repeated(ops: OpsApp, query: str) -> None:
    problem(bearer(ops, READ).get(f"/api/events?{query}"), 400, "bad-parameter")


def test_too_many_wrong_tokens_have_to_wait_but_not_a_client_whose_token_was_right(ops: OpsApp) -> None:
    assert bearer(ops, READ, address="192.0.2.1").get("/api/health").status_code == 200
    for address in ("192.0.2.1", "192.0.2.2"):
        wrong = bearer(ops, "wrong" * 4, address=address)
        statuses = [wrong.get("/api/health").status_code for _ in range(12)]
        assert statuses == [401] * 10 + [429] * 2
    assert bearer(ops, READ, address="192.0.2.1").get("/api/health").status_code == 200
    answer = bearer(ops, READ, address="192.0.2.2").get("/api/health")
    problem(answer, 429, "too-many-requests")
    assert 0 < int(answer.headers["retry-after"]) <= 600


def test_each_token_has_a_rate_of_its_own(quick_redis: RedisServer) -> None:
    with opened(quick_redis.url, CALLBACKS_OPS_TOKENS=TOKENS, CALLBACKS_OPS_REQUESTS_PER_MINUTE="20") as ops:
        answers = [bearer(ops, READ).get("/api/health") for _ in range(3)]
        assert [answer.status_code for answer in answers] == [200, 200, 429]
        problem(answers[2], 429, "too-many-requests")
        assert 1 <= int(answers[2].headers["retry-after"]) <= 3
        assert bearer(ops, ACT).get("/api/health").status_code == 200


def test_without_tokens_nobody_gets_an_answer(quick_redis: RedisServer) -> None:
    with opened(quick_redis.url) as ops:
        problem(bearer(ops, READ).get("/api/health"), 401, "unauthorized")


def test_other_sites_get_no_leave_to_read(ops: OpsApp) -> None:
    answer = bearer(ops, READ).get("/api/health", origin="https://evil.example")
    asked = bearer(ops, READ).request("OPTIONS", "/api/health", headers={"access-control-request-method": "GET"})
    for one in (answer, asked):
        assert not [name for name in one.headers if name.startswith("access-control")]
    problem(asked, 405, "method-not-allowed")
    assert asked.headers["allow"] == "GET, HEAD"


def test_a_message_is_as_the_command_prints_it(ops: OpsApp, database: Database) -> None:
    client = bearer(ops, READ)
    (expected,) = printed(database, "message", "m-1")
    found = client.get("/api/messages/m-1").json()

    deliveries = found.pop("deliveries")
    assert found == expected
    assert {one["handler"] for one in deliveries} == {"crm"}
    assert len(deliveries) == 3
    assert NUMBER not in json.dumps(found)
    problem(client.get("/api/messages/unknown%2Fid"), 404, "not-found")
    assert "5 messages" in problem(client.get(f"/api/messages/{JOB}"), 409, "ambiguous-id")["detail"]


def test_messages_are_as_the_command_prints_them(ops: OpsApp, database: Database) -> None:
    client = bearer(ops, READ)
    for query, options in {
        "": (),
        "status=delivrd": ("--status", "DELIVRD"),
        "status=DELIVRD&status=EXPIRED&limit=3": ("--status", "DELIVRD", "--status", "EXPIRED", "--limit", "3"),
        f"to=%2B{NUMBER[:3]}%20{NUMBER[3:]}": ("--to", NUMBER),
        "to=447700900123": ("--to", "447700900123"),
        f"job={JOB}": ("--job", JOB),
        "since=1h": ("--since", "1h"),
    }.items():
        assert client.get(f"/api/messages?{query}").json()["messages"] == printed(database, "messages", *options), query
    assert len(client.get("/api/messages?since=2026-11-01T12:01:12Z").json()["messages"]) == 3
    assert client.get("/api/messages?overdue=true").json() == {"messages": [], "next_cursor": None}


def test_totals_and_jobs_are_as_the_commands_print_them(ops: OpsApp, database: Database) -> None:
    client = bearer(ops, READ)
    assert [client.get("/api/stats?since=4w").json()] == printed(database, "stats", "--since", "4w")
    assert client.get(f"/api/jobs?job={JOB}").json()["jobs"] == printed(database, "jobs", JOB)


def pages(client: OpsClient, path: str, name: str) -> Iterator[list[Any]]:
    query = ""
    while True:
        page = client.get(f"{path}?limit=2{query}").json()
        yield page[name]
        if page["next_cursor"] is None:
            return
        query = f"&cursor={page['next_cursor']}"


@pytest.mark.parametrize(("path", "name", "key"), [("messages", "messages", "message_id"), ("events", "events", "id")])
def test_pages_have_each_item_once_also_if_others_come_meanwhile(
    quick_redis: RedisServer, tmp_path: Any, path: str, name: str, key: str
) -> None:
    own = Database(f"sqlite:///{tmp_path}/own.db")
    # Several of one moment too.
    for number in range(5):
        own.write(report("DELIVRD", seconds=number // 2, message_id=f"m-{number}"))
    with opened(quick_redis.url, DATABASE_URL=own.url, CALLBACKS_OPS_TOKENS=TOKENS) as ops:
        client = bearer(ops, READ)
        before = [one[key] for one in client.get(f"/api/{path}").json()[name]]
        seen: list[str] = []
        for number, page in enumerate(pages(client, f"/api/{path}", name)):
            seen += [one[key] for one in page]
            own.write(report("DELIVRD", seconds=100 + number, message_id=f"new-{number}"))
    own.close()
    assert len(before) == 5
    assert seen == before


def test_events_are_in_their_one_form_the_newest_first(ops: OpsApp) -> None:
    client = bearer(ops, READ)
    events = client.get("/api/events").json()["events"]

    assert len(events) == 11
    assert events[0]["kind"] == "reply"
    assert (events[0]["text"], events[0]["sender"]) == ("***", "356*****123")
    assert [one["received_at"] for one in events] == sorted((one["received_at"] for one in events), reverse=True)
    assert NUMBER not in json.dumps(events)
    of_one = client.get("/api/events?message=m-1").json()["events"]
    assert [(one["kind"], one.get("status")) for one in of_one] == [
        ("reply", None), ("report", "DELIVRD"), ("report", "ACCEPTD")
    ]  # fmt: skip
    assert len(client.get("/api/events?kind=report&limit=100").json()["events"]) == 10


@pytest.mark.parametrize("path", ["/api/messages", "/api/messages/m-1", "/api/events"])
def test_whole_numbers_need_the_role_act_and_are_in_the_action_log(
    ops: OpsApp, quick_redis: RedisServer, path: str
) -> None:
    problem(bearer(ops, READ).get(f"{path}?numbers=full"), 403, "role-missing")
    assert logged(quick_redis) == []

    assert NUMBER in bearer(ops, ACT).get(f"{path}?numbers=full").text

    (action,) = logged(quick_redis)
    assert (action.who, action.by, action.what, action.state) == ("ann", "api", "view", "done")
    assert action.where == ("events" if "events" in path else "messages")
    assert action.done >= 1


def test_a_handler_is_paused_and_resumed_by_those_who_may_act(ops: OpsApp, quick_redis: RedisServer) -> None:
    problem(bearer(ops, READ).request("POST", "/api/handlers/crm/pause"), 403, "role-missing")
    client = bearer(ops, ACT)
    with connections.connect(quick_redis.url) as redis:
        paused = client.request("POST", "/api/handlers/crm/pause").json()
        assert (paused["handler"], paused["paused"], paused["by"]) == ("crm", True, "operator")
        assert pause.read_state(redis, "crm") is not None
        assert client.request("POST", "/api/handlers/crm/resume").json()["paused"] is False
        assert pause.read_state(redis, "crm") is None
    problem(client.request("POST", "/api/handlers/unknown/pause"), 404, "not-found")
    assert [(one.who, one.by, one.what, one.where) for one in logged(quick_redis)] == [
        ("ann", "api", "resume", "handler:crm"), ("ann", "api", "pause", "handler:crm")
    ]  # fmt: skip


def test_health_has_the_status_and_what_is_wrong(ops: OpsApp) -> None:
    found = bearer(ops, READ).get("/api/health").json()

    assert found["level"] == "bad"
    assert found["summary"].endswith("action now")
    assert [one["condition"] for one in found["alerts"]]
    assert {"callbacks_per_second", "handlers", "queues", "durable", "at"} <= set(found)


def test_health_of_cells_names_those_that_cannot_be_read(quick_redis: RedisServer) -> None:
    cells = f"one={quick_redis.url},two=redis://127.0.0.1:1/0"
    with opened(quick_redis.url, CALLBACKS_CELLS=cells, CALLBACKS_OPS_TOKENS=TOKENS) as ops:
        found = bearer(ops, READ).get("/api/health").json()

    assert found["level"] == "bad"
    assert found["unavailable"] == ["two"]
    assert [(one["cell"], "error" in one) for one in found["cells"]] == [("one", False), ("two", True)]


@pytest.mark.parametrize(
    "query",
    [
        "limit=0", "limit=501", "limit=many", "numbers=some", "since=yesterday", "since=2026-11-01", "cursor=nonsense",
        "cursor=WyIxIiwiMiJd", "unknown=1", "limit=1&limit=2", f"to={'1' * 301}", "overdue=maybe",
    ],
)  # fmt: skip
def test_a_wrong_parameter_is_named(ops: OpsApp, query: str) -> None:
    detail = problem(bearer(ops, READ).get(f"/api/messages?{query}"), 400, "bad-parameter")["detail"]

    assert query.partition("=")[0] in detail


def test_a_wrong_parameters_problem_says_what_is_right(ops: OpsApp) -> None:
    client = bearer(ops, READ)
    for query, detail in (
        ("limit=0", "limit must be from 1 to 500."),
        (f"{'x' * 50}=1", f"'{'x' * 40}' is not a parameter here; use: since."),
    ):
        path = "messages" if query == "limit=0" else "stats"
        assert problem(client.get(f"/api/{path}?{query}"), 400, "bad-parameter")["detail"] == detail


def test_while_redis_is_unavailable_messages_are_still_read(database: Database) -> None:
    with opened("redis://127.0.0.1:1/0", DATABASE_URL=database.url, CALLBACKS_OPS_TOKENS=TOKENS) as ops:
        client = bearer(ops, ACT)
        assert len(client.get("/api/messages").json()["messages"]) == 5
        assert "deliveries" not in client.get("/api/messages/m-1").json()
        assert client.get("/api/stats").status_code == 200
        for path in ("/api/health", "/api/messages?numbers=full", f"/api/messages/{0:024x}"):
            answer = client.get(path)
            problem(answer, 503, "redis-unavailable")
            assert answer.headers["retry-after"] == "5"


def test_without_the_libraries_of_sql_an_answer_says_how_to_install_them(
    quick_redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = importlib.util.find_spec

    def without(name: str, package: str | None = None) -> Any:
        return None if name == "sqlalchemy" else real(name, package)

    for name in list(sys.modules):
        if name.startswith(("workers.handlers.sql", "callbacks.ops.api.history_")):
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.delattr(api, "history_operations", raising=False)
    monkeypatch.setattr(importlib.util, "find_spec", without)
    with opened(quick_redis.url, CALLBACKS_OPS_TOKENS=TOKENS) as ops:
        for path in (
            "/api/messages?status=SEEN&limit=1",
            "/api/messages/m-1",
            "/api/events",
            "/api/stats",
            "/api/jobs",
        ):
            answer = bearer(ops, READ).get(path)
            assert "pip install" in problem(answer, 503, "history-unavailable")["detail"]
            assert "retry-after" not in answer.headers
        assert bearer(ops, READ).get("/api/health").status_code == 200
        assert "/api/events" in ops.client().get("/api/openapi.json").json()["paths"]


def test_the_libraries_of_sql_are_loaded_only_where_the_tables_are_read() -> None:
    program = (
        "import sys\n"
        "from callbacks.ops.app import create_app\n"
        "from shared import settings\n"
        "create_app(settings.load(process='ops'))\n"
        "print(sorted({'alembic', 'callbacks.ops.api.history_operations', 'sqlalchemy'} & sys.modules.keys()))\n"
    )
    environment = {"REDIS_URL": "redis://127.0.0.1:1"}
    found = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
    assert found.stdout == "['callbacks.ops.api.history_operations']\n"


def test_without_the_tables_of_sql_an_answer_says_so(quick_redis: RedisServer, tmp_path: Any) -> None:
    with opened(quick_redis.url, DATABASE_URL=f"sqlite:///{tmp_path}/none.db", CALLBACKS_OPS_TOKENS=TOKENS) as ops:
        answer = bearer(ops, READ).get("/api/messages")
        assert "add `sql` to CALLBACKS_HANDLERS" in problem(answer, 503, "history-unavailable")["detail"]
