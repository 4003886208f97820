"""After any history, and any number of kills, `forget` leaves nothing of the person and all of everybody else.

Histories are random, from a seed: callbacks and replies in several spellings, expanded or not, delivered, retried,
dead, quarantined, stored by `sql`, `jsonl` and the stream. `forget` is killed before random steps, and run again; one
history is tried with a kill before each step. Then every key and every file is searched. `make forget` runs many more
histories, and kills before every step.
"""

import base64
import gzip
import json
import os
import random
import sqlite3
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, Final

import pytest

from callbacks import Event, ReplyEvent, ReportEvent, handler
from shared import batches
from shared.batches import Quarantined
from tests import forkserver
from tests.environment import stripped_environment
from tests.integration.harness import Harness, due_now, open_harness, record, reply, status
from tests.integration.sql.databases import Database
from tests.redis_server import RedisServer, require
from workers.handlers.jsonl.writer import Writer
from workers.handlers.stream.redis_stream import RedisStream

HISTORIES: Final = int(os.environ.get("FORGET_HISTORIES", "3"))
SEED: Final = int(os.environ.get("CHAOS_SEED", "1"))
NUMBER, WORDS = "35699777123", "write to my sister"
SPELLINGS: Final = (NUMBER, f"+{NUMBER}", f"00{NUMBER}", "+356 99 777 123", "(+356) 99-777-123")
WHOLE: Final = "FORGET_HISTORIES" in os.environ
# More than the command has, whatever the history.
_MAX_STEPS: Final = 180
_STEPS_APART: Final = 1 if WHOLE else 41
_PROGRAM: Final = "import sys; from tests.integration.personal_data.killed_forget import run; run(*sys.argv[1:])"

stored: dict[str, Event] = {}
rng = random.Random(SEED)


@handler(ReportEvent, ReplyEvent, batch=True)
def stores(events: list[Event]) -> None:
    stored.update({event.id: event for event in events})


@handler(ReportEvent, ReplyEvent, attempts=2)
def fails(event: Event) -> None:
    if rng.random() < 0.6:
        raise RuntimeError("not today")


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    require()
    with RedisServer({"save": "3600 1", "rdbcompression": "no"}) as made:
        yield made


@pytest.mark.parametrize("history", range(HISTORIES))
def test_nothing_is_left_of_the_person_and_all_of_everybody_else(
    history: int, server: RedisServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    rng.seed(f"{SEED} {history}")

    check(server, tmp_path, kills=[rng.randrange(1, _MAX_STEPS) for _ in range(rng.randrange(4))])


@pytest.mark.parametrize("step", range(1 + SEED % _STEPS_APART, _MAX_STEPS, _STEPS_APART))
def test_a_kill_before_any_step_leaves_nothing_either(
    step: int, server: RedisServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    rng.seed("each step")

    assert check(server, tmp_path, kills=[step]) < _MAX_STEPS


def check(server: RedisServer, folder: Path, *, kills: Sequence[int]) -> int:
    """Forget the person of a history, with kills before these steps; return how many steps it had at most."""
    stored.clear()
    with server.client() as client:
        client.flushall()
    with open_harness(server.url, stores, fails) as harness:
        others = play(harness)
        write(server, folder)
        interrupted = [forget(server, folder, kill_before=step)[2] for step in kills]
        code, output, steps = forget(server, folder)

        assert code == 0, output
        assert harness.audit().balances
        held = [*texts_in(server, folder)]
        assert [form for form in forms() if any(form in text for text in held)] == []
        assert {one for one in others if not any(f'"{one}"'.encode() in text for text in held)} == set()
    return max(*interrupted, steps, 0)


def play(harness: Harness) -> set[str]:
    """Let random things happen; return the ids of messages of other people that are held somewhere."""
    others: set[str] = set()
    for step in range(rng.randrange(3, 8)):
        ids = [f"{step}-{index}" for index in range(rng.randrange(1, 6))]
        theirs = {one for one in ids if rng.random() < 0.4}
        others |= set(ids) - theirs
        records = [record(one, to=rng.choice(SPELLINGS)) if one in theirs else record(one) for one in ids]
        if rng.random() < 0.3:
            body = json.dumps({"data": records}).encode()
            odd = Quarantined(
                kind="status", source="gw", received_ms=batches.now_ms(), error="odd", body=body, records=len(ids)
            )
            harness.accept(quarantined=[odd])
        else:
            harness.accept(status(*records))
        if rng.random() < 0.4:
            harness.accept(reply(f"r-{step}", text=f"{WORDS} at {rng.choice(SPELLINGS)}"))
        for act in (
            harness.expand,
            lambda: harness.deliver(stores),
            lambda: harness.deliver(fails),
            lambda: due_now(harness, fails),
        ):
            if rng.random() < 0.5:
                act()
    return others


def write(server: RedisServer, folder: Path) -> None:
    """Store what was delivered as the built-in handlers do."""
    events = list(stored.values())
    database = Database(f"sqlite:///{folder}/callbacks.db")
    database.write(*events)
    database.close()
    with closing(Writer(folder / "events", max_bytes=1 << 11)) as writer:
        for event in events:
            writer.write([event])
    with server.client() as client:
        RedisStream(client, "callbacks", max_entries=None).add(events)


def forget(server: RedisServer, folder: Path, *, kill_before: int = 0) -> tuple[int, str, int]:
    """Run the command; return its exit code, its output, and the number of its steps, 0 if it was killed."""
    # Not in the folder, where everything is searched for the number.
    with tempfile.TemporaryDirectory(prefix="callbacks-forget-") as outside:
        log, counts = Path(outside) / "log", Path(outside) / "counts"
        process = forkserver.shared().start(
            *(rng.choice(SPELLINGS), str(kill_before), str(counts)),
            program=_PROGRAM,
            log=log,
            cwd=folder,
            environment={
                **stripped_environment(),
                "PYTHONPATH": str(Path(__file__).parents[3]),
                "REDIS_URL": server.url,
                "CALLBACKS_JSONL_DIR": str(folder / "events"),
                "DATABASE_URL": f"sqlite:///{folder}/callbacks.db",
            },
        )
        code = process.wait(60)
        return code, log.read_text(), int(counts.read_text()) if counts.exists() else 0


def forms() -> list[bytes]:
    """Return what must be found nowhere: the digits and the words, as they are and as they may be encoded."""
    plain = [NUMBER, NUMBER[3:], "99 777 123", "99-777-123", WORDS]
    encoded = [text.encode() for text in plain] + [text.encode("utf-16-le") for text in plain]
    return [*encoded, base64.b64encode(NUMBER.encode()), base64.b64encode(WORDS.encode())[:-4]]


def texts_in(server: RedisServer, folder: Path) -> Iterator[bytes]:
    """Yield the content of every key, of Redis's files and of every file of the handlers, unpacked."""
    with server.client() as client:
        answer: Any = client.config_get("dir")
    redis_folder = Path(answer["dir"])
    yield from (path.read_bytes() for path in redis_folder.rglob("*") if path.suffix in {".aof", ".rdb"})
    with closing(sqlite3.connect(folder / "callbacks.db")) as database:
        database.execute("VACUUM")
    for path in folder.rglob("*"):
        if path.is_file():
            data = path.read_bytes()
            yield gzip.decompress(data) if path.suffix == ".gz" else data
