"""The spool: what it holds is sealed, waits for its key if that is missing, and is found by `forget` where it opens."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import pytest

from ingest.group_commit import BatchEntry
from ingest.spool.folder import SpoolFolder
from ingest.spool.spool import _unpack
from shared import sealed_data
from shared.batches import Accepted
from shared.number_search import NumberSearch
from shared.seal_keys import SealKey
from tests.integration.sealed.conftest import NEW, OLD
from workers.personal_data.spool_files import SpoolFiles

NUMBER: Final = "35699777123"


def callback(message_id: str) -> Accepted:
    body = {"data": [{"message_id": message_id, "status": "DELIVRD", "to": NUMBER}]}
    return Accepted("status", "gw", 1, 1, json.dumps(body))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "spool"


@pytest.fixture
def spool(folder: Path) -> Iterator[SpoolFolder]:
    opened = SpoolFolder(folder, limit_bytes=1 << 20)
    yield opened
    opened.close()


def drain(spool: SpoolFolder) -> list[BatchEntry]:
    """Return what can be drained, and remove it."""
    drained: list[BatchEntry] = []
    while batch := spool.next_batch():
        drained += (entry for row in batch.rows for entry in row.entries)
        spool.remove(batch, batch.rows)
    return drained


def test_what_was_spooled_before_there_was_a_key_drains_too(spool: SpoolFolder) -> None:
    sealed_data.use([])
    spool.append([callback("1")])
    sealed_data.use([OLD])
    spool.append([callback("2")])

    assert drain(spool) == [callback("1"), callback("2")]


def test_what_is_sealed_with_a_missing_key_stays_and_holds_back_nothing(spool: SpoolFolder, folder: Path) -> None:
    spool.append([callback("1")])
    sealed_data.use([NEW])
    spool.append([callback("2")])

    assert drain(spool) == [callback("2")]
    assert drain(spool) == []
    assert spool.backlog.callbacks == 1
    spool.close()

    # The next process has the key.
    sealed_data.use([NEW, OLD])
    after = SpoolFolder(folder, limit_bytes=1 << 20)
    after.open()
    assert drain(after) == [callback("1")]
    assert after.backlog.callbacks == 0
    after.close()


def test_what_is_sealed_with_a_missing_key_is_read_once_some_at_a_time(
    spool: SpoolFolder, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    read: list[bytes] = []

    def counted(raw: bytes, digest: bytes) -> Sequence[BatchEntry] | None:
        read.append(raw)
        return _unpack(raw, digest)

    monkeypatch.setattr("ingest.spool.spool._unpack", counted)
    for _ in range(12):
        spool.append([callback("1")] * 100)
    sealed_data.use([NEW])

    per_call: list[int] = []
    for _ in range(3):
        before = len(read)
        assert spool.next_batch() is None
        per_call.append(len(read) - before)
    assert per_call == [5, 5, 2]
    assert (spool.backlog.callbacks, spool.backlog.drainable) == (1200, 0)
    assert spool.next_batch() is None
    assert len(read) == 12
    assert caplog.text.count("action=spool_record") == 1

    spool.append([callback("2")])
    assert spool.backlog.drainable == 1
    assert drain(spool) == [callback("2")]
    assert len(read) == 13
    assert (spool.backlog.callbacks, spool.backlog.drainable) == (1200, 0)


def test_an_open_spool_may_mention_the_number(spool: SpoolFolder, folder: Path) -> None:
    spool.append([callback("1")])
    files = SpoolFiles(folder, NumberSearch([NUMBER]))

    result = files.erase(dry_run=False)
    assert (result.found, result.unreadable, result.is_complete) == (0, 1, False)
    assert "drained" in result.why
    drain(spool)
    assert files.erase(dry_run=False).is_complete


@pytest.mark.parametrize(
    ("keys", "number", "counts"),
    [([OLD], NUMBER, (1, 1, 0)), ([OLD], "35699000000", (0, 0, 0)), ([NEW], NUMBER, (0, 0, 1))],
)
def test_a_batch_that_could_not_be_drained_is_searched_if_it_opens(
    keys: list[SealKey], number: str, counts: tuple[int, ...], spool: SpoolFolder, folder: Path
) -> None:
    spool.append([callback("1")])
    batch = spool.next_batch()
    assert batch is not None
    spool.move_to_file(batch, batch.rows[0], "failed")
    sealed_data.use(keys)

    result = SpoolFiles(folder, NumberSearch([number])).erase(dry_run=False)

    assert (result.found, result.left, result.unreadable) == counts
