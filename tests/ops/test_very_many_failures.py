"""With 100,000 entries a page costs what it costs with 1,000, and what is done with all of them is done in parts."""

import re
from collections.abc import Iterator

import httpx
import pytest
from playwright.sync_api import expect

from shared import audit, events, keys
from tests.ops import many_failures
from tests.ops.browser_windows import Opened
from tests.ops.conftest import without_settings
from tests.ops.running_service import Service, served
from tests.redis_server import RedisServer, require
from tests.unit.example_events import report

VERY_MANY = 100_000
# It takes seconds to replay these, more than to stop it.
SOME = 20_000


@pytest.fixture(scope="module")
def _module_service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    require()
    folder = tmp_path_factory.mktemp("service")
    with (
        without_settings(),
        RedisServer({"appendonly": "no", "busy-reply-threshold": "60000"}) as server,
        served(folder, server, workers=False, CALLBACKS_DURABILITY="memory") as service,
    ):
        yield service


@pytest.fixture
def service(_module_service: Service) -> Service:
    """Return a service of which nothing has failed."""
    with _module_service.redis.client() as client:
        client.flushall()
    return _module_service


@pytest.fixture
def page(service: Service) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=service.ops_url, trust_env=False, timeout=60) as client:
        yield client


def csrf(page: httpx.Client, path: str) -> str:
    found = re.search(r'name="csrf" value="([^"]+)"', page.get(path).text)
    assert found is not None
    return found[1]


PAGES = (
    "/quarantine",
    "/dead-letters",
    "/dead-letters/crm",
    f"/quarantine?after={many_failures.NEWEST_MS - 100}-{100:024x}",
    f"/dead-letters/crm?after={many_failures.NEWEST_MS - 100}-{'f' * 24}",
    "/quarantine?error=valueerror&source=gw&kind=unknown",
    "/messages?id=nowhere",
)


def test_a_filter_that_hardly_lets_anything_through_looks_at_a_part_and_offers_to_go_on(
    service: Service, page: httpx.Client
) -> None:
    with service.redis.client() as client:
        many_failures.quarantine(client, SOME)
        calls, size = many_failures.cost(client, page, "/quarantine?error=never")

    assert calls < 6_000
    assert size < 3_000_000
    output = page.get("/quarantine?error=never").text
    assert "None of the next 5,000 failures is one with an error" in output
    assert re.search(r'href="/quarantine\?error=never&amp;after=\d+-[0-9a-f]+">Continue search', output)


def test_how_many_match_is_said_as_far_as_it_was_counted(service: Service, page: httpx.Client) -> None:
    with service.redis.client() as client:
        many_failures.quarantine(client, SOME)
        form = {"do": "drop-all", "csrf": csrf(page, "/quarantine"), "error": "rare"}
        calls, _ = many_failures.cost(client, page, "/quarantine/confirm", **form)

    output = page.post("/quarantine/confirm", data=form).text
    assert "only the newest 10,000 were searched" in output
    assert "The action searches <b>all</b> 20,000" in output
    assert calls < 11_000


@pytest.mark.parametrize("javascript", [True, False], ids=["with scripts", "without scripts"])
def test_all_of_very_many_are_dropped_in_parts_while_a_page_shows_how_it_goes(
    service: Service, window: Opened, javascript: bool
) -> None:
    with service.redis.client(decode_responses=False) as client:
        many_failures.quarantine(client, VERY_MANY // 2)
        at = window(service.ops_url, javascript=javascript)
        shown = at.open("/quarantine")

        shown.get_by_role("group", name="All", exact=True).get_by_role("button", name="Drop…").click()
        shown.get_by_role("button", name="Drop 50,000").click()

        expect(shown.get_by_role("status")).to_contain_text("Running:")
        expect(shown.get_by_role("progressbar")).to_be_visible()
        expect(shown.get_by_role("status")).to_have_text("Done: 50,000.", timeout=120_000)
        assert client.zcard(keys.QUARANTINE) == 0
        sums = audit.run(client)
        assert (sums.dropped, sums.balances) == (VERY_MANY // 2, True)


def test_an_act_can_be_stopped_and_gone_on_with_and_outlives_the_process_that_began_it(
    service: Service, window: Opened
) -> None:
    with service.redis.client(decode_responses=False) as client:
        many_failures.quarantine(client, SOME)
        shown = window(service.ops_url).open("/quarantine")
        shown.get_by_role("group", name="All", exact=True).get_by_role("button", name="Replay…").click()
        shown.get_by_role("button", name=f"Replay {SOME:,}").click()
        shown.get_by_role("button", name="Stop").click()

        expect(shown.get_by_role("status")).to_contain_text("stopped")
        left = client.zcard(keys.QUARANTINE)
        assert 0 < left < SOME
        shown.get_by_role("button", name="Resume").click()
        expect(shown.get_by_role("status")).to_contain_text("Running:")
        path = shown.url.removeprefix(service.ops_url)
        service.ops.stop()

        service.ops = service.start_ops()
        again = window(service.ops_url).open(path)
        expect(again.get_by_role("status")).to_contain_text("stopped")
        again.get_by_role("button", name="Resume").click()
        expect(again.get_by_role("status")).to_contain_text("Done:", timeout=180_000)
        assert client.zcard(keys.QUARANTINE) == 0
        sums = audit.run(client)
        assert (sums.waiting, sums.balances) == (SOME, True)


# Last, as Redis takes seconds to delete them.
def test_pages_cost_no_more(service: Service, page: httpx.Client) -> None:
    costs: dict[int, list[tuple[int, int]]] = {}
    with service.redis.client() as client:
        for number in (1_000, VERY_MANY):
            client.flushall()
            many_failures.quarantine(client, number)
            many_failures.dead_letters(client, "crm", number, events.encode(report()))
            costs[number] = []
            for path in PAGES:
                page.get(path)  # which may load a script
                costs[number].append(many_failures.cost(client, page, path))
            form = {"do": "drop-all", "csrf": csrf(page, "/quarantine")}
            costs[number].append(many_failures.cost(client, page, "/quarantine/confirm", **form))
            assert f"{number:,}" in page.post("/quarantine/confirm", data=form).text

    for path, (calls, size), (many_calls, many_size) in zip(
        (*PAGES, "confirm"), costs[1_000], costs[VERY_MANY], strict=True
    ):
        # A hundred times as many; the service's own looks come in between, more of them on a busy machine.
        assert many_calls <= calls * 2 + 50, path
        assert many_size <= size * 2 + 20_000, path
