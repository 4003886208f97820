"""The connection of the handler `sql` is closed when the worker process stops."""

from pathlib import Path

import pytest

from tests.unit.test_caller import reports
from workers.declaration import ATTRIBUTE
from workers.deliver.call.caller import Caller
from workers.handlers.sql import handler as sql


def test_the_connection_is_closed_when_the_worker_stops(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", f"sqlite:///{tmp_path}/events.db")
    sql._store.cache_clear()
    try:
        store = sql._store()
        with Caller(getattr(sql.sql, ATTRIBUTE)) as calls:
            list(calls.call(reports(2)))
            assert store._engine is not None

        assert store._engine is None
    finally:
        sql._store.cache_clear()
