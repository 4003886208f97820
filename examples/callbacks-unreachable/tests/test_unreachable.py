"""The handler `unreachable`, tested with the fixtures and the `Conformance` checks that come with callbacks."""

import sqlite3
from collections.abc import Callable, Collection
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from callbacks_unreachable import handler

from callbacks import ReportEvent
from callbacks.testing import Conformance, Worker


@pytest.fixture(autouse=True)
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "unreachable.db"
    monkeypatch.setattr(handler, "FILE", path)
    return path


def rows(path: Path, query: str) -> list[Any]:
    if not path.exists():
        return []
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute(query).fetchall()


class TestUnreachable(Conformance):
    handler = handler.unreachable

    @pytest.fixture(autouse=True)
    def _path(self, file: Path) -> None:
        self.path = file

    def effects(self) -> Collection[object]:
        return rows(self.path, "SELECT id, recipient FROM reports")


def test_a_number_is_unreachable_after_three_failures_until_the_next_delivery(
    callbacks_report: Callable[..., ReportEvent], file: Path
) -> None:
    def reports(*statuses: str, recipient: str) -> list[ReportEvent]:
        return [callbacks_report(status, recipient=recipient) for status in statuses]

    with Worker(handler.unreachable) as worker:
        worker.deliver_all(reports("UNDELIV", "EXPIRED", "ACCEPTD", "UNDELIV", recipient="35600000001"))
        worker.deliver_all(reports("UNDELIV", "UNDELIV", recipient="35600000002"))
        worker.deliver_all(reports("UNDELIV", "UNDELIV", "UNDELIV", "DELIVRD", recipient="35600000003"))

    assert rows(file, "SELECT recipient FROM unreachable") == [("35600000001",)]


def test_a_number_is_the_same_in_any_spelling_and_a_message_counts_once(
    callbacks_report: Callable[..., ReportEvent], file: Path
) -> None:
    with Worker(handler.unreachable) as worker:
        for number, recipient in enumerate(("35600000001", "+356 00000001", "0035600000001")):
            worker.deliver(callbacks_report("UNDELIV", recipient=recipient, message_id=f"m-{number}"))
        # A message that fails on Viber is sent by SMS.
        for number, status in enumerate(("UNDELIV", "UNDELIV", "DELIVRD")):
            fields = {"recipient": "35600000002", "message_id": f"n-{number}"}
            worker.deliver(callbacks_report("UNDELIV", channel="VIBER", **fields))
            worker.deliver(callbacks_report(status, channel="SMS", **fields))

    assert rows(file, "SELECT recipient FROM unreachable") == [("35600000001",)]


def test_it_pauses_while_the_file_is_locked(callbacks_report: Callable[..., ReportEvent], file: Path) -> None:
    with Worker(handler.unreachable) as worker, closing(sqlite3.connect(file)) as other:
        handler.connection().execute("PRAGMA busy_timeout = 1")
        other.execute("BEGIN IMMEDIATE")
        result = worker.deliver(callbacks_report())

    assert (result.outcome, result.after_seconds) == ("paused", 30)
    assert "locked" in result.reason
