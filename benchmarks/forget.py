"""How long `callbacks forget --from-file` takes for many people among many rows and failures, and what it delays.

The command runs as an operator runs it, on a database and a Redis that `person_history` has filled. Meanwhile a writer
with the code of the handler `sql` adds a report every 50 ms, as a worker does. Afterwards nothing of the people may be
left, and nothing of anybody else be missing.
"""

import contextlib
import json
import re
import threading
import time
from functools import partial
from pathlib import Path
from typing import Any, Final, Self

from benchmarks import command, databases
from benchmarks.command import Run
from benchmarks.deployment import DeployedProcess, Deployment, MeasurementFailed
from benchmarks.measurements import OURS, Measurements
from benchmarks.person_history import PersonHistory
from benchmarks.processor_time import cpu_seconds
from callbacks import Retry
from shared import audit
from tests.unit.example_events import report
from workers.handlers.sql.database_url import DatabaseUrl
from workers.handlers.sql.event_store import EventStore
from workers.handlers.sql.writer import write_events

DATABASES: Final = ("SQLite", "PostgreSQL")
_WRITE_EVERY_SECONDS: Final = 0.05
_POLL_SECONDS: Final = 0.05


def measure(run: Run) -> None:
    """Make the table."""
    history = PersonHistory(*run.scale.history)
    for name in DATABASES:
        if why := databases.missing(name):
            run.absent[name] = why
        else:
            run.compare(name, {OURS: partial(_forget, history, name)}, repetitions=1)
    run.remarks.append(
        f"{history.people:,} numbers among {history.rows:,} rows and {history.failures:,} failures. A writer adds a "
        "report every 50 ms meanwhile; its longest wait is that of one transaction. PostgreSQL runs without fsync."
    )


def _forget(history: PersonHistory, database: str) -> Measurements:
    with Deployment(rewrites=True) as deployment, databases.new_database(database, deployment.folder) as url:
        history.fill_database(url)
        history.fill_redis(deployment.redis)
        before = history.count(url, deployment.redis)
        file = deployment.folder / "numbers"
        file.write_text("\n".join(history.forgotten))
        with _Writer(url) as writer:
            began = time.monotonic()
            process = deployment.callbacks(
                "forget", "--from-file", str(file), "--json", handlers="sql", DATABASE_URL=url
            )
            spent_seconds, peak_mib = _wait(process)
            seconds = time.monotonic() - began
        document: dict[str, Any] = json.loads(process.output.splitlines()[-1])
        after, expected = history.count(url, deployment.redis), _expected(before, written=writer.written)
        if not document["complete"] or after != expected or not audit.run(deployment.redis).balances:
            raise MeasurementFailed(f"{before} became {after}, not {expected}: {document['stores']}")
    stores = {one["store"]: one for one in document["stores"]}
    return {
        "seconds": seconds,
        "processor seconds of the command": spent_seconds,
        **{f"{name}, seconds": stores[name]["seconds"] for name in ("waiting", "failures", "sql", "redis-files")},
        "peak memory of the command, MiB": peak_mib,
        "a worker's longest write, ms": writer.longest_seconds * 1000,
        "a worker's failed attempts": writer.failed,
    }


def _wait(process: DeployedProcess) -> tuple[float, float]:
    """Wait until the command has ended well; return its processor time, and the most memory that it has had, in MiB."""
    status, peak_kib, spent_seconds = Path(f"/proc/{process.pid}/status"), 0, 0.0
    while process.process.poll() is None:
        with contextlib.suppress(OSError, ValueError):  # it has ended just now
            spent_seconds = sum(cpu_seconds(process.pid))
            (peak_kib,) = map(int, re.findall(r"VmHWM:\s+(\d+)", status.read_text()))
        time.sleep(_POLL_SECONDS)
    if code := process.process.returncode:
        raise MeasurementFailed(f"the command ended with {code}: {process.output[-2000:]}")
    return spent_seconds, peak_kib / 1024


class _Writer:
    """Writes reports of somebody else as the handler `sql` does, until it is closed."""

    def __init__(self, url: str) -> None:
        self.written = self.failed = 0
        self.longest_seconds = 0.0
        self._store = EventStore(DatabaseUrl.parse(url), write_events)
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ending.set()
        self._thread.join()
        self._store.close()

    def _run(self) -> None:
        number = 0
        while not self._ending.wait(_WRITE_EVERY_SECONDS):
            began = time.monotonic()
            try:
                self._store.write([report(message_id=f"meanwhile-{number}", to="35699000001")])
                self.written, number = self.written + 1, number + 1
            except Retry:  # as a worker tries it again later
                self.failed += 1
            self.longest_seconds = max(self.longest_seconds, time.monotonic() - began)


def _expected(before: dict[str, int], *, written: int) -> dict[str, int]:
    """Return what has to be left of rows and failures when this number of reports was written meanwhile."""
    return {
        "rows": before["rows"] - before["rows of theirs"] + 2 * written,
        "rows of theirs": 0,
        # A quarantined callback stays, without the record of theirs.
        "failures": before["failures"] - before["dead letters of theirs"],
        "failures of theirs": 0,
        "dead letters of theirs": 0,
    }


if __name__ == "__main__":
    command.main("forget", measure, "How long many people's erasure takes among many rows and failures.")
