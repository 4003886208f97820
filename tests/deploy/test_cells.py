"""deploy/haproxy/cells.cfg and deploy/nginx/cells.conf: real cells, each a Redis with its processes, behind a proxy."""

import asyncio
import http.client
import json
import os
import shutil
import signal
import ssl
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import pytest

from callbacks.simulator.campaign import plan
from callbacks.simulator.gateway import run as send_campaign
from callbacks.simulator.ledger import Ledger
from callbacks.simulator.options import CampaignOptions, DeliveryOptions
from callbacks.simulator.receiver_urls import parse_urls
from callbacks.simulator.summary import RunSummary
from callbacks.simulator.traffic import SPAN
from shared import connections, keys
from tests.acceptance.processes import Running, get, run, started
from tests.acceptance.test_campaign import acknowledged, delivered
from tests.certificates import self_signed
from tests.deploy.deployment import BUNDLE, DEPLOY
from tests.deploy.test_proxies import haproxy, listens, nginx
from tests.forkserver import children
from tests.redis_server import RedisServer, StartRedis, free_port

# One source for each campaign: 16 URLs.
TOKENS: Final = {f"campaign{number:02}": f"token-of-campaign-{number:02}-6b1f" for number in range(16)}
PROXIES: Final[Mapping[str, tuple[str, Callable[..., list[str]]]]] = {
    "haproxy": ("haproxy/cells.cfg", haproxy),
    "nginx": ("nginx/cells.conf", nginx),
}
PARTS: Final = ("web", "worker expand", "worker deliver")
WAIT_SECONDS: Final = 60.0


@dataclass
class Cell:
    """One cell: its Redis, its processes, and its folder, which outlives a kill of all of them."""

    redis_url: str
    folder: Path
    start: Callable[..., Running]
    port: int = field(default_factory=free_port)
    processes: list[Running] = field(default_factory=list)

    @property
    def events(self) -> Path:
        return self.folder / "events.jsonl"

    def begin(self, *parts: str) -> None:
        """Start `parts`, the web process first, and wait until that is ready."""
        environment = {
            "REDIS_URL": self.redis_url,
            "PORT": str(self.port),
            "CALLBACKS_SPOOL_DIR": str(self.folder / "spool"),
            "CALLBACKS_RUN_DIR": str(self.folder / "run"),
            "CALLBACKS_LOG_FILE": str(self.events),
        }
        self.processes = [self.start(*part.split(), **environment) for part in parts]
        web = self.processes[0]
        web.until(lambda: get(f"http://127.0.0.1:{self.port}/readyz")[0] == 200, "readiness")

    def kill(self) -> None:
        """Kill each process at whatever instruction it is."""
        parents = [process.process.pid for process in self.processes]
        for pid in [*parents, *(worker for parent in parents for worker in children(parent))]:
            os.kill(pid, signal.SIGKILL)
        for process in self.processes:
            process.wait()

    def received(self) -> int:
        """Return how many reports its web process has stored."""
        with connections.connect(self.redis_url) as client:
            return int(client.hget(keys.COUNTS, keys.counter("report", "received")) or 0)


def until(true: Callable[[], object]) -> None:
    deadline = time.monotonic() + WAIT_SECONDS
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@contextmanager
def two_cells(tmp_path: Path, north_url: str, south_url: str) -> Iterator[tuple[Cell, Cell, Callable[..., Running]]]:
    environment = {
        "CALLBACKS_TOKENS": ",".join(f"{name}={token}" for name, token in TOKENS.items()),
        "CALLBACKS_ALLOWED_IPS": "127.0.0.1",
        "CALLBACKS_TRUSTED_PROXIES": "127.0.0.1",
    }
    for name in ("north", "south"):
        (tmp_path / name).mkdir()
    with started(tmp_path, environment) as start:
        north, south = (Cell(url, tmp_path / name, start) for name, url in (("north", north_url), ("south", south_url)))
        yield north, south, start


@dataclass(frozen=True)
class Front:
    """A proxy as it is shipped, but for its addresses and pauses."""

    port: int
    ca: Path

    def url(self, source: str) -> str:
        return f"https://127.0.0.1:{self.port}/callbacks/{TOKENS[source]}"

    def post(self, source: str, query: str = "") -> int:
        tls = ssl.create_default_context(cafile=self.ca)
        connection = http.client.HTTPSConnection("127.0.0.1", self.port, timeout=30, context=tls)
        path = f"/callbacks/{TOKENS[source]}/status{query}"
        connection.request("POST", path, BUNDLE, {"content-type": "application/json"})
        status = connection.getresponse().status
        connection.close()
        return status


@contextmanager
def proxied(name: str, cells: tuple[Cell, Cell], start: Callable[..., Running], folder: Path) -> Iterator[Front]:
    if shutil.which(name) is None:
        pytest.skip(f"no {name} on the PATH")
    file, command_of = PROXIES[name]
    port, pem = free_port(), self_signed(folder)
    text = (DEPLOY / file).read_text().replace("inter 2s", "inter 200ms").replace("fail_timeout=5s", "fail_timeout=1s")
    # Without this HAProxy takes a cell for dead that needs longer than the shorter pause for two answers.
    text = text.replace("timeout connect 3s", "timeout connect 3s\n    timeout check 30s")
    text = text.replace("127.0.0.1:8090", f"127.0.0.1:{cells[1].port}")
    program, *arguments = command_of(text, folder, pem, port, cells[0].port)
    front = start(*arguments, command=program)
    front.until(lambda: listens(port), "a proxy that listens")
    yield Front(port, pem)
    written = "".join(path.read_text(errors="replace") for path in folder.rglob("*.log"))
    assert not [token for token in TOKENS.values() if token in written], "a token is in a log"


@pytest.mark.parametrize("proxy", PROXIES)
def test_one_url_has_one_cell_and_only_the_urls_of_a_dead_cell_move(
    proxy: str, redis_server: RedisServer, tmp_path: Path
) -> None:
    # Two databases of one server: nothing but the proxy is tried here.
    with two_cells(tmp_path, redis_server.url, f"{redis_server.url.removesuffix('0')}1") as (north, south, start):
        for cell in (north, south):
            cell.begin("web")
        with proxied(proxy, (north, south), start, tmp_path) as front:

            def owner_of(source: str, query: str = "") -> str:
                before = {"north": north.received(), "south": south.received()}
                assert front.post(source, query) == 200
                after = {"north": north.received(), "south": south.received()}
                (cell,) = [name for name in after if after[name] > before[name]]
                return cell

            owners = {source: owner_of(source) for source in TOKENS}
            assert set(owners.values()) == {"north", "south"}
            # Repeats too, in another order, whatever follows the path.
            assert {source: owner_of(source, "?campaign=7") for source in reversed(TOKENS)} == owners

            south.processes[0].send(signal.SIGKILL)
            south.processes[0].wait()
            assert {owner_of(source) for source in TOKENS} == {"north"}

            south.begin("web")
            until(lambda: owner_of(next(source for source in TOKENS if owners[source] == "south")) == "south")
            assert {source: owner_of(source) for source in TOKENS} == owners


def test_a_cell_is_killed_amid_a_campaign_over_16_urls_and_returns_and_nothing_is_lost(
    redis_server: RedisServer, start_redis: StartRedis, tmp_path: Path
) -> None:
    south_server = start_redis()
    with ExitStack() as stack:
        north, south, start = stack.enter_context(two_cells(tmp_path, redis_server.url, south_server.url))
        for cell in (north, south):
            cell.begin(*PARTS)
        front = stack.enter_context(proxied("haproxy", (north, south), start, tmp_path))
        gateway = stack.enter_context(ThreadPoolExecutor(1))

        campaigns = gateway.submit(asyncio.run, send_campaigns(front, tmp_path, seed=0))
        until(lambda: north.received() and delivered(south.events))
        south_server.kill()
        south.kill()
        before = north.received()
        # However slow this machine is, and whether or not the campaign is over by now.
        assert {front.post(source) for source in TOKENS} == {200}
        assert north.received() > before
        assert all(summary.discarded == 0 for summary in campaigns.result())

        # A second campaign for each URL while the cell is back.
        south_server.start()
        south.begin(*PARTS)
        back = south.received()
        until(lambda: [front.post(source) for source in TOKENS] and south.received() > back)
        campaigns = gateway.submit(asyncio.run, send_campaigns(front, tmp_path, seed=len(TOKENS)))
        assert all(summary.discarded == 0 for summary in campaigns.result())

        cells = f"north={north.redis_url},south={south.redis_url}"
        until(lambda: audited(cells, tmp_path)["pending"] == 0)
        sums = audited(cells, tmp_path)

    expected = {event for source in TOKENS for event in acknowledged(tmp_path / f"{source}.jsonl", source=source)}
    in_north, in_south = delivered(north.events), delivered(south.events)
    assert len(expected) > 800
    assert not expected - in_north.keys() - in_south.keys(), "lost"
    assert set(in_north.values()) == {1}, "doubled in a cell where nothing was killed"
    assert sums["balances"], sums
    assert [cell["balances"] for cell in sums["cells"]] == [True, True]
    received = [cell["records"]["report"]["received"] for cell in sums["cells"]]
    assert min(received) > 0
    assert sums["records"]["report"]["received"] == sum(received)


async def send_campaigns(front: Front, folder: Path, *, seed: int) -> list[RunSummary]:
    """Send a campaign to each URL, all at the same time, each with its own ledger."""
    delivery = DeliveryOptions(rate=12, connections=2, retry_seconds=1, ca=front.ca)
    start_at = datetime.now(UTC) - SPAN
    with ExitStack() as ledgers:
        return await asyncio.gather(
            *(
                send_campaign(
                    plan(
                        CampaignOptions(destinations=13, replies=3, bundle=(1, 3), seed=seed + number),
                        start_at=start_at,
                    ),
                    parse_urls(front.url(source)),
                    options=delivery,
                    ledger=ledgers.enter_context(Ledger(folder / f"{source}.jsonl")),
                )
                for number, source in enumerate(TOKENS)
            )
        )


def audited(cells: str, folder: Path) -> dict[str, Any]:
    output = run("audit", "--json", cwd=folder, environment={"CALLBACKS_CELLS": cells}).stdout
    sums: dict[str, Any] = json.loads(output)
    return sums
