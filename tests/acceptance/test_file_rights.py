"""Nothing that a process of ours makes is open to the other users of the machine, whatever umask it is started with.

With umask 000 nothing but the process itself keeps others out; what is closed then is closed with any umask.
"""

import json
import re
import sqlite3
import stat
import urllib.request
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path

from tests.acceptance.processes import CALLBACKS, REPOSITORY, TOKEN, Running, started
from tests.redis_server import StartRedis, free_port, require

Start = Callable[..., Running]
# Each handler that keeps files, with what makes it close and pack some of them.
HANDLERS = {
    "CALLBACKS_HANDLERS": "sql,jsonl,examples.everyday",
    "PYTHONPATH": str(REPOSITORY),
    "CALLBACKS_JSONL_GZIP": "true",
    "CALLBACKS_JSONL_MAX_BYTES": "4096",
}
MADE = (
    "ledger.jsonl",
    "var/callbacks.db-wal",
    "var/events/.gzip-lock",
    "var/events/*.gz",
    "var/everyday/everyday.db",
    "var/dev/events.jsonl",
    "var/dev/redis-url",
    "var/dev/redis/appendonlydir/*",
    "var/dev/run/deliver-sql-*",
    "var/dev/token",
)
DEMO = ("events.jsonl", "ledger.jsonl", "redis", "web.log")


def unmasked(*arguments: str) -> tuple[str, ...]:
    """Return what `sh` runs to start `callbacks` with umask 000."""
    return "-c", 'umask 000; exec "$0" "$@"', CALLBACKS, *arguments


def open_to_others(folder: Path) -> dict[str, str]:
    """Return what others may read, write or enter below `folder`, with its mode; not what these tests write there."""
    found = {}
    for path in folder.rglob("*"):
        with suppress(FileNotFoundError):  # removed meanwhile
            mode = path.lstat().st_mode
            if mode & stat.S_IRWXO and not stat.S_ISLNK(mode) and not re.fullmatch(r"\d+\.log", path.name):
                found[str(path.relative_to(folder))] = stat.filemode(mode)
    return found


def has_messages(file: Path) -> bool:
    with closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as database, suppress(sqlite3.OperationalError):
        return bool(database.execute("SELECT count(*) FROM callbacks_messages").fetchone()[0])
    return False


def test_what_dev_its_redis_and_its_handlers_write_is_closed_to_others(tmp_path: Path) -> None:
    require()
    with started(tmp_path, HANDLERS) as start:
        dev = start(*unmasked("dev", "--port", str(free_port())), command="/bin/sh")
        dev.until(lambda: "callback_url" in dev.output, "the URLs")
        found = re.search(r"callback_url +(http://\S+)/status", dev.output)
        assert found is not None
        campaign = ("simulate", found[1], "--destinations", "20", "--ledger", "ledger.jsonl", "--quiet")
        gateway = start(*unmasked(*campaign), command="/bin/sh")
        assert gateway.wait() == 0, gateway.output
        for pattern in MADE:
            dev.until(lambda: list(tmp_path.glob(pattern)), pattern)  # noqa: B023 # asked before the next one
        dev.until(lambda: has_messages(tmp_path / "var" / "callbacks.db"), "messages in the database")

        assert open_to_others(tmp_path) == {}

        assert dev.stop() == 0
    assert open_to_others(tmp_path) == {}


def test_what_the_demo_writes_is_closed_to_others(tmp_path: Path) -> None:
    require()
    with started(tmp_path, {}) as start:
        demo = start(*unmasked("demo", "--destinations", "20", "--replies", "2"), command="/bin/sh")
        assert demo.wait() == 0, demo.output

    assert {path.name for path in (tmp_path / "var" / "demo").iterdir()} >= set(DEMO)
    assert open_to_others(tmp_path) == {}


def test_what_the_web_process_spools_is_closed_to_others(
    tmp_path: Path, start_redis: StartRedis, start: Start, port: int
) -> None:
    server = start_redis()
    web = start(*unmasked("web"), command="/bin/sh", REDIS_URL=server.url)
    web.wait_for_output("listening on")
    server.stop()
    body = json.dumps({"data": [{"message_id": "1", "status": "DELIVRD"}]}).encode()
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/callbacks/{TOKEN}/status", body, {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=30) as answer:
        assert answer.status == 200

    assert (tmp_path / "var" / "spool" / "spool-0.db").stat().st_size > 0
    assert open_to_others(tmp_path) == {}
