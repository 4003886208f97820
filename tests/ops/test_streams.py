"""What a page that stays open costs and how it ends; and what is to be seen while Redis is unavailable."""

import re
from contextlib import ExitStack
from itertools import islice
from pathlib import Path

import httpx
from playwright.sync_api import expect

from callbacks.ops.pages.event_streams import MAX_STREAMS
from tests.ops.browser_windows import Opened, assert_everybody_can_use
from tests.ops.running_service import PASSWORD, Service, served
from tests.ops.sign_in import client_of, sign_in, token
from tests.redis_server import StartRedis


class Followed:
    """An open stream: its answer, and the rest of its text, which closes it once nobody holds it."""

    def __init__(self, stack: ExitStack, client: httpx.Client) -> None:
        self.answer = stack.enter_context(client.stream("GET", "/now/events"))
        self.status = self.answer.status_code
        self.texts = self.answer.iter_text()
        if self.status == httpx.codes.OK:
            assert next(self.texts).startswith("event: html\ndata: ")


def threads(service: Service) -> int:
    return len(list(Path(f"/proc/{service.ops.process.pid}/task").iterdir()))


def test_a_limited_number_may_stay_open_without_a_thread_each_and_no_more(service: Service) -> None:
    limits = httpx.Limits(max_connections=2 * MAX_STREAMS)
    with ExitStack() as stack, httpx.Client(base_url=service.ops_url, limits=limits, timeout=30) as client:
        streams = [Followed(stack, client) for _ in range(MAX_STREAMS)]
        assert {stream.status for stream in streams} == {200}
        assert threads(service) < MAX_STREAMS // 2

        refused = Followed(stack, client)
        assert refused.status == 503
        assert refused.answer.headers["retry-after"] == "30"

        streams[0].answer.close()
        service.ops.until(lambda: Followed(stack, client).status == 200, "a free place")


def test_they_end_when_the_process_stops(service: Service) -> None:
    ops = service.start_ops()
    with ExitStack() as stack, httpx.Client(base_url=service.ops_url, timeout=30) as client:
        followed = Followed(stack, client)
        ops.stop()
        # Fails if it was cut off instead of ended.
        list(followed.texts)
    assert "Cancel" not in ops.output
    service.start_ops()


def test_they_end_with_the_session(guarded: Service) -> None:
    with ExitStack() as stack, client_of(guarded) as client, client_of(guarded) as other:
        sign_in(client)
        other.cookies.update(client.cookies)
        followed = Followed(stack, client)
        assert other.post("/sign-out", data={"csrf": token(other, "/live")}).status_code == 303
        assert len(list(islice(followed.texts, 20))) < 20, "it goes on"


def test_while_redis_is_unavailable_the_page_says_so_and_comes_back_by_itself(
    start_redis: StartRedis, window: Opened, tmp_path: Path
) -> None:
    redis = start_redis()
    with (
        served(tmp_path, redis, workers=False) as service,
        httpx.Client(base_url=service.ops_url, timeout=30) as client,
    ):
        page = window(service.ops_url).open("/")
        heading = page.get_by_role("heading", level=1)
        expect(heading).to_contain_text("1 problem needs action now")
        live = window(service.ops_url).open("/live")
        expect(live.get_by_text("Listening.")).to_be_visible()

        redis.stop()

        expect(heading).to_contain_text("Redis does not answer")
        expect(page.locator("[data-state]")).to_have_text("Not up to date: Redis is asked again every two seconds.")
        expect(live.locator("[data-state].problem")).to_have_text(
            re.compile(r"^Redis is unavailable \(ConnectionError\) since [0-9:]{8} UTC\. What is shown is older;")
        )
        expect(live.locator("section.stale")).to_be_visible()
        without_script = client.get("/live").text
        assert '<section class="card stale">' in without_script
        for path in ("/", "/?refresh"):
            answer = client.get(path)
            assert answer.status_code == 503
            assert "Redis does not answer" in answer.text
            assert "Traceback" not in answer.text
        assert_everybody_can_use(page, "redis away")
        assert_everybody_can_use(live, "live redis away")
        redis.start()
        expect(heading).to_contain_text("action now")
        expect(page.get_by_text("Updated automatically.")).to_be_visible()
        expect(live.get_by_text("Listening.")).to_be_visible()
        expect(live.locator("section.stale")).to_have_count(0)
        assert client.get("/").status_code == 200


def test_while_redis_is_unavailable_one_can_sign_in_and_out(start_redis: StartRedis, tmp_path: Path) -> None:
    redis = start_redis()
    with (
        served(tmp_path, redis, workers=False, CALLBACKS_OPS_PASSWORD=PASSWORD) as service,
        client_of(service) as client,
    ):
        redis.stop()
        assert sign_in(client).status_code == 303
        assert client.get("/").status_code == 503
        copy = httpx.Cookies(client.cookies)
        assert client.post("/sign-out", data={"csrf": token(client, "/live")}).status_code == 303
        client.cookies = copy
        assert client.get("/").status_code == 303
