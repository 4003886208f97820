"""What a release left behind when all of it was killed, this one shows, processes and delivers, each event once."""

import urllib.request
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from shared import audit, keys
from tests.acceptance.processes import TOKEN, get, run, started
from tests.acceptance.stored import fixture, history
from tests.acceptance.stored.shop_handlers import FINISHED_SUFFIX
from tests.integration.ops.ops_client import opened
from tests.redis_server import RedisServer, free_port
from workers.admin.bulk_action import BulkActions

# What each command prints of the fixture, among other things.
COMMANDS = (
    ("audit", "It balances."),
    ("handlers", "held"),
    ("quarantine list", "not JSON"),
    ("dead list shop", "no order of"),
    ("dead list later", "the shop is closed"),
    ("dead list shop --group", "no order of"),
    ("dead export shop", "message_id"),
    ("retries list", "the shop is closed"),
    ("messages", "VIBER"),
    ("message 14466445287300014003", "VIBER"),
    ("jobs", "autumn"),
    ("stats", "DELIVRD"),
    ("optouts list", "paper"),
    ("top --once", "held"),
)
PAGES = (
    ("/", "held"),
    ("/messages", "VIBER"),
    ("/messages?id=14466445287300014003", "delivered"),
    ("/jobs", "autumn"),
    ("/retries", "the shop is closed"),
    ("/dead-letters", "shop"),
    ("/dead-letters/shop", "no order of"),
    ("/dead-letters/shop/errors", "no order of"),
    ("/quarantine", "not JSON"),
    ("/handlers/chat", "the chat is closed"),
    ("/actions", "eva"),
    ("/metrics", "callbacks_delivery_duration_seconds"),
    ("/audit", "balances"),
)
# What an operator does when the shop opens.
RELEASING = (
    "handlers resume held",
    "handlers resume dying",
    "handlers resume chat",
    "dead replay shop --all",
    "dead replay later --all",
    "retries now later --yes",
)
# A report and a reply.
IN_THE_SPOOL = 2


class Restored:
    """What a release stored, in a Redis and a folder of their own, and the settings with which it ran."""

    def __init__(self, stored: dict[str, Any], server: RedisServer, folder: Path) -> None:
        self.folder = folder
        self.server = server
        self.port = free_port()
        self.environment = history.environment(server.url, port=self.port, ops_port=free_port())
        with server.client(decode_responses=False) as client:
            fixture.restore(stored, client, folder)

    def command(self, words: str) -> str:
        ended = run(*words.split(), cwd=self.folder, environment=self.environment)
        assert ended.returncode == 0, f"{words}: {ended.stdout}{ended.stderr}"
        return ended.stdout

    def finished(self) -> dict[str, Counter[str]]:
        """Return how often each handler finished each event, by its id."""
        files = self.folder.glob(f"*{FINISHED_SUFFIX}")
        return {file.name.removesuffix(FINISHED_SUFFIX): Counter(file.read_text().split()) for file in files}


@pytest.fixture(params=fixture.paths(), ids=lambda path: path.stem)
def restored(request: pytest.FixtureRequest, redis_server: RedisServer, tmp_path: Path) -> Restored:
    return Restored(fixture.read(request.param), redis_server, tmp_path)


def test_commands_and_pages_show_it(restored: Restored, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(restored.folder)  # its database is named relative to that
    for words, expected in COMMANDS:
        assert expected in restored.command(words), words
    shown = {name: restored.environment[name] for name in ("DATABASE_URL", "CALLBACKS_HANDLERS")}
    with opened(restored.server.url, **shown) as ops:
        client = ops.client()
        for path, expected in PAGES:
            answer = client.get(path)
            assert answer.status_code == 200, path
            assert expected in answer.text, path


def test_all_of_it_is_delivered_once(restored: Restored) -> None:
    (restored.folder / "open").touch()
    with restored.server.client(decode_responses=False) as client:
        before = audit.run(client)
        assert before.balances
        for words in RELEASING:
            restored.command(words)
        for key in client.scan_iter(f"{keys.ACTIONS}:*:runner"):
            client.delete(key)  # its lease is over: nobody renewed it
        assert [resume(client, action_id) for action_id in interrupted(client)] == ["done", "done"]

        with started(restored.folder, restored.environment) as start:
            start("worker", "expand")
            start("worker", "deliver")
            web = start("web")
            web.until(lambda: get(f"http://127.0.0.1:{restored.port}/readyz")[0] == 200, "readiness")
            web.until(lambda: is_delivered(client, before.received + IN_THE_SPOOL), "all deliveries", pause_seconds=0.2)
            # What was received is known: only the body that differs from another by blanks is sent again.
            assert post(restored.port, b'{"data": [{"message_id": "blanks", "status": "SENT"}]}') == 200
            web.until(lambda: audit.run(client).duplicate == before.duplicate + 1, "a repeat that is recognised")
        client.hset(keys.FORGETTING, mapping=dict.fromkeys(client.hkeys(keys.FORGETTING), 1))  # interrupted hours ago
        restored.command(f"forget {history.FORGETTING}")
        assert not client.exists(keys.FORGETTING)
        after = audit.run(client)

    assert after.balances
    finished = restored.finished()
    assert {number for events in finished.values() for number in events.values()} == {1}, "an event came twice"
    delivered = {one.handler: one.delivered for one in after.handlers if one.handler in finished}
    assert delivered == {name: events.total() for name, events in finished.items()}
    # `archive` finished a report and two replies that were forgotten before others got them.
    assert finished["shop"] == finished["held"]
    assert (finished["archive"] - finished["shop"]).total() == 3
    assert finished["archive"].total() == after.unique


def interrupted(client: Any) -> list[str]:
    return [key.decode().split(":")[2] for key in client.scan_iter(f"{keys.ACTIONS}:*:work")]


def resume(client: Any, action_id: str) -> str:
    """Resume an action whose process died; return how it ended."""
    actions = BulkActions(client)
    resumed = actions.resume(action_id, "eva")
    actions.run(resumed, is_stopping=bool)
    state = actions.get_state(resumed)
    assert state is not None
    return state.action.state


def is_delivered(client: Any, received: int) -> bool:
    sums = audit.run(client)
    return sums.received == received and sums.pending == 0


def post(port: int, body: bytes) -> int:
    url = f"http://127.0.0.1:{port}/callbacks/{TOKEN}/status"
    request = urllib.request.Request(url, body, {"content-type": "application/json"}, method="POST")
    with urllib.request.urlopen(request, timeout=30) as answered:
        return int(answered.status)
