"""The page *Retries*: what it shows, and trying retries now; as a browser's forms do it, without a browser."""

import asyncio
import re
import time
from collections.abc import Iterator, Mapping

import httpx
import pytest

from callbacks import ReplyEvent, ReportEvent, Retry, handler
from callbacks.ops.app import create_app
from shared import keys, queues, settings
from tests.integration.harness import Harness, open_harness
from tests.integration.scripted_handlers import accept_and_expand, script, single
from tests.redis_server import RedisServer
from workers.admin import action_log
from workers.admin.action_log import ActionLog, LoggedAction
from workers.admin.retry_rows import RetryFilter, RetryRow
from workers.admin.scheduled_retries import ScheduledRetries
from workers.runtime import pause

QUEUE = queues.delivery_queue("single")


@handler(ReportEvent, ReplyEvent, attempts=5)
def crm(event: ReportEvent | ReplyEvent) -> None:
    raise Retry(7200, reason="no <b>account</b>")


@pytest.fixture
def harness(quick_redis: RedisServer) -> Iterator[Harness]:
    with open_harness(quick_redis.url, single, crm) as made:
        yield made


class Visitor:
    """Loads pages and sends forms as a browser does, to the application in this process."""

    def __init__(self, runner: asyncio.Runner, client: httpx.AsyncClient) -> None:
        self._runner = runner
        self._client = client

    def get(self, path: str) -> httpx.Response:
        return self._runner.run(self._client.get(path))

    def post(self, path: str, data: Mapping[str, str | list[str]], **headers: str) -> httpx.Response:
        return self._runner.run(self._client.post(path, data=dict(data), headers=headers))


@pytest.fixture
def page(harness: Harness, monkeypatch: pytest.MonkeyPatch) -> Iterator[Visitor]:
    monkeypatch.setenv("REDIS_URL", harness.url)
    app = create_app(settings.load())
    client = httpx.AsyncClient(
        transport=httpx.ASGITransport(app),
        base_url="http://127.0.0.1",
        headers={"origin": "http://127.0.0.1"},
        follow_redirects=True,
    )
    with asyncio.Runner() as runner:
        lifespan = app.router.lifespan_context(app)
        runner.run(lifespan.__aenter__())
        yield Visitor(runner, client)
        runner.run(client.aclose())
        runner.run(lifespan.__aexit__(None, None, None))


def fail(harness: Harness, *message_ids: str) -> list[RetryRow]:
    """Let these events fail at `crm`, and at `single`, whose retries are due before."""
    accept_and_expand(harness, *message_ids)
    script.act = closed
    harness.deliver(single)
    harness.deliver(crm)
    return rows(harness, RetryFilter())


def closed(event: ReportEvent) -> None:
    raise Retry(3600, reason="shop is closed")


def rows(harness: Harness, wanted: RetryFilter) -> list[RetryRow]:
    return list(ScheduledRetries(harness.connection).iterate(wanted))


def shown(text: str) -> list[list[str]]:
    """Return the texts of the cells of the table's rows."""
    return [
        [
            " ".join(re.sub(r"<[^>]+>", " ", cell).split())
            for cell in re.findall(r"<t[dh][^>]*>(.*?)</t[dh]>", row, re.DOTALL)
        ]
        for row in re.findall(r"<tr>(.*?)</tr>", text, re.DOTALL)[1:]
    ]


def form(text: str, action: str, **more: str) -> dict[str, str | list[str]]:
    """Return the hidden fields of the form that posts to `action`."""
    (body,) = re.findall(rf'<form method="post" action="{action}".*?</form>', text, re.DOTALL)
    found: dict[str, str | list[str]] = dict(more)
    for name, value in re.findall(r'<input type="hidden" name="([^"]+)" value="([^"]*)">', body):
        if name == "id":
            found.setdefault("id", [])
            found["id"].append(value)  # type: ignore[union-attr]
        else:
            found[name] = value
    return found


def try_now(page: Visitor, *, path: str = "/retries", ids: tuple[str, ...] = (), task: str = "retry") -> httpx.Response:
    """Choose, confirm, and return the page of the action."""
    scope = "selected" if ids else "all"
    chosen = form(page.get(path).text, "/retries/confirm", do=f"{task}-{scope}") | ({"id": list(ids)} if ids else {})
    asked = page.post("/retries/confirm", data=chosen)
    assert asked.status_code == 200, asked.text
    return page.post("/retries/actions", data=form(asked.text, "/retries/actions", do=f"{task}-{scope}"))


def newest_action(harness: Harness) -> LoggedAction:
    (found,) = ActionLog(harness.connection).list_newest(limit=1).items
    return found


def test_it_shows_each_retry_with_error_attempt_and_time(harness: Harness, page: Visitor) -> None:
    fail(harness, "m-1", "m-2")

    text = page.get("/retries").text
    found = shown(text)

    assert '<a href="/retries" aria-current="page">Retries</a>' in text
    assert [cells[2:6] for cells in found] == [
        ["2 of 3", "single", "m-1", "DELIVRD"],
        ["2 of 3", "single", "m-2", "DELIVRD"],
        ["2 of 5", "crm", "m-1", "DELIVRD"],
        ["2 of 5", "crm", "m-2", "DELIVRD"],
    ]
    assert [cells[6] for cells in found] == ["shop is closed"] * 2 + ["no &lt;b&gt;account&lt;/b&gt;"] * 2
    assert re.search(r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d in (59 min|1 h 0 min|60 min)$", found[0][1])
    assert '<a href="/messages?id=m-1">' in text
    assert "35699000001" not in text
    assert "4 events failed and will be tried again" in text


def test_it_is_filtered_by_handler_error_and_message(harness: Harness, page: Visitor) -> None:
    fail(harness, "m-1", "m-2")

    for query, number in (
        ("handler=crm", 2),
        ("error=SHOP", 2),
        ("message=m-2", 2),
        ("handler=crm&message=m-2&error=account", 1),
        ("handler=nobody", 0),
        ("error=nothing+like+it", 0),
    ):
        answer = page.get(f"/retries?{query}")
        assert (answer.status_code, len(shown(answer.text)) if number else "no more retries" in answer.text) == (
            200,
            number or True,
        ), query


def test_it_shows_a_page_at_a_time(harness: Harness, page: Visitor) -> None:
    fail(harness, *(f"m-{n}" for n in range(60)))

    seen, path = [], "/retries"
    while True:
        text = page.get(path).text
        found = shown(text)
        assert len(found) <= 50
        seen += [(cells[3], cells[4]) for cells in found]
        following = re.search(r'<a href="([^"]+)">Later', text)
        if following is None:
            break
        path = following[1].replace("&amp;", "&")

    assert len(seen) == len(set(seen)) == 120


def test_all_or_the_selected_are_tried_now_and_it_is_logged(harness: Harness, page: Visitor) -> None:
    first, *_ = fail(harness, "m-1", "m-2", "m-3")

    done = try_now(page, ids=(first.job_id,))
    assert "1 retry moved to the queue." in done.text
    assert harness.waiting_jobs(QUEUE) == [first.job_id]
    action = newest_action(harness)
    assert (action.what, action.by, action.where, action.number, action.done) == ("retry", "page", "retries", 1, 1)

    done = try_now(page, path="/retries?handler=single")
    assert "2 retries moved to the queue." in done.text
    assert 'href="/retries?handler=single"' in done.text
    action = newest_action(harness)
    assert (action.where, action.chosen, action.number, action.done) == ("retries:single", "all", 2, 2)
    assert len(harness.waiting_jobs(QUEUE)) == 3
    assert {row.handler for row in rows(harness, RetryFilter())} == {"crm"}

    done = try_now(page, path="/retries?error=account&message=m-3")
    assert newest_action(harness).chosen == "all of one message whose error contains a text of 7 characters"
    assert len(rows(harness, RetryFilter())) == 2
    assert "Try now" in page.get("/actions").text


def test_all_or_the_selected_are_given_up_on_and_it_is_logged(harness: Harness, page: Visitor) -> None:
    first, *_ = fail(harness, "m-1", "m-2")

    done = try_now(page, ids=(first.job_id,), task="give_up")
    assert "1 retry is a dead letter now." in done.text
    assert [letter["error"] for letter in harness.dead_letters("single")] == ["shop is closed"]
    done = try_now(page, path="/retries?handler=crm", task="give_up")
    assert "2 retries are dead letters now." in done.text
    assert (newest_action(harness).what, newest_action(harness).where) == ("give_up", "retries:crm")
    assert {row.handler for row in rows(harness, RetryFilter())} == {"single"}
    assert harness.audit().balances
    assert "Give up" in page.get("/actions").text


def test_those_that_fail_again_meanwhile_are_not_tried_twice(harness: Harness, page: Visitor) -> None:
    fail(harness, "m-1")
    chosen = form(page.get("/retries").text, "/retries/confirm", do="retry-all")
    asked = form(page.post("/retries/confirm", data=chosen).text, "/retries/actions", do="retry-all")
    fail(harness, "m-2")

    done = page.post("/retries/actions", data=asked)

    assert done.status_code == 200
    assert {row.message_id for row in rows(harness, RetryFilter())} == {"m-2"}


def test_a_double_click_is_one_action(harness: Harness, page: Visitor) -> None:
    fail(harness, "m-1")
    chosen = form(page.get("/retries").text, "/retries/confirm", do="retry-all")
    asked = form(page.post("/retries/confirm", data=chosen).text, "/retries/actions", do="retry-all")

    answers = [page.post("/retries/actions", data=asked) for _ in range(2)]

    assert answers[0].url == answers[1].url
    assert harness.connection.zcard(keys.ACTIONS) == 1


def test_it_says_what_is_no_longer_scheduled_and_who_waits(harness: Harness, page: Visitor) -> None:
    first, second, *_ = fail(harness, "m-1", "m-2")
    pause.pause(harness.connection, "single")
    chosen = form(page.get("/retries").text, "/retries/confirm", do="retry-selected") | {
        "id": [first.job_id, second.job_id]
    }
    ScheduledRetries(harness.connection).promote([("single", first.job_id)])

    asked = page.post("/retries/confirm", data=chosen).text

    assert "1 selected retry is no longer scheduled." in asked
    assert "Try 1 retry now?" in asked
    assert "<bdi>single</bdi></b> is paused: its events wait until it is resumed." in asked
    ScheduledRetries(harness.connection).promote([("single", second.job_id)])
    assert "There is nothing to try" in page.post("/retries/confirm", data=chosen).text
    assert "Nothing is selected" in page.post("/retries/confirm", data=chosen | {"id": []}).text


@pytest.mark.parametrize(
    ("path", "fields", "status"),
    [
        ("confirm", {"csrf": "forged"}, 403),
        ("actions", {"csrf": "forged"}, 403),
        ("actions", {"action_id": "x"}, 400),
        ("actions", {"do": "drop-all"}, 400),
        ("actions", {"created_until": "later"}, 400),
        ("actions", {"do": "retry-selected", "id": "../x"}, 400),
        ("confirm", {"do": "retry-selected", "id": ["0badc0de"] * 51}, 200),
        ("confirm", {"do": "retry-selected", "id": [f"{n:032x}" for n in range(51)]}, 400),
        ("actions", {"error": "x" * 201}, 400),
    ],
)
def test_what_no_page_of_ours_made_changes_nothing(
    harness: Harness, page: Visitor, path: str, fields: dict[str, str | list[str]], status: int
) -> None:
    fail(harness, "m-1")
    token = form(page.get("/retries").text, "/retries/confirm")["csrf"]
    right = {"csrf": token, "do": "retry-all", "action_id": action_log.new_id(), "created_until": queues.job_time()}

    answer = page.post(f"/retries/{path}", data={**right, **fields})

    assert answer.status_code == status
    assert len(rows(harness, RetryFilter())) == 2
    assert page.post(f"/retries/{path}", data=right, origin="https://evil.example").status_code == 403


@pytest.mark.parametrize("after", ["x", "1-", "9" * 400, "1-%00"])
def test_a_cursor_that_is_none_is_refused(page: Visitor, after: str) -> None:
    assert page.get(f"/retries?after={after}").status_code == 400


def test_without_retries_it_says_so(page: Visitor) -> None:
    assert "No event waits for a retry." in page.get("/retries").text


def test_with_very_many_a_page_reads_few(harness: Harness, page: Visitor) -> None:
    row, *_ = fail(harness, "m-1")
    key = keys.job(row.job_id)
    fields = harness.connection.hgetall(key)
    with harness.connection.pipeline(transaction=False) as pipe:
        for n in range(20_000):
            pipe.hset(keys.job(f"{n:032x}"), mapping=fields)
        pipe.execute()
    harness.connection.zadd(keys.rq_scheduled(QUEUE), {f"{n:032x}": time.time() + 4000 + n for n in range(20_000)})

    def commands(path: str) -> int:
        # The server counts those of other clients too, such as an audit under way: the least is the page's own.
        return min(count_once(path) for _ in range(3))

    def count_once(path: str) -> int:
        page.get(path)
        before = harness.connection.info("stats")["total_commands_processed"]
        assert page.get(path).status_code == 200
        after: int = harness.connection.info("stats")["total_commands_processed"]
        return after - int(before)

    assert commands("/retries") < 2000
    assert commands("/retries?error=nothing") < 12_000
    done = try_now(page, path="/retries?handler=single")
    deadline = time.monotonic() + 60
    while "20,001 retries moved to the queue." not in done.text:
        assert time.monotonic() < deadline, done.text
        done = page.get(str(done.url))
