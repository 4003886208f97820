"""A spool that has drained holds nothing of what it held; what is left in its folder is named."""

import json
from pathlib import Path

import msgspec
import pytest

from ingest.spool.folder import SpoolFolder
from shared.batches import Accepted
from shared.number_search import NumberSearch
from workers.personal_data.report import StoreUnreadable
from workers.personal_data.spool_files import SpoolFiles

NUMBER = "35699777123"
CALLBACK = Accepted(
    "status", "gw", 1, 1, json.dumps({"data": [{"message_id": "1", "status": "DELIVRD", "to": NUMBER}]})
)
SEARCH = NumberSearch([NUMBER])


def test_a_drained_spool_holds_no_bytes_of_what_it_held(tmp_path: Path) -> None:
    folder = SpoolFolder(tmp_path / "spool", limit_bytes=1 << 20)
    files = SpoolFiles(folder.path, SEARCH)
    folder.append([CALLBACK])
    waiting = files.erase(dry_run=False)
    assert not waiting.is_complete
    assert "drained" in waiting.why
    with pytest.raises(
        StoreUnreadable, match=r"spool-[0-9]+\.db.*: run this again when its web process has drained it"
    ):
        list(files.export())

    batch = folder.next_batch()
    assert batch is not None
    folder.remove(batch, batch.rows)

    assert files.erase(dry_run=False).is_complete
    assert NUMBER.encode() not in b"".join(path.read_bytes() for path in folder.path.iterdir())
    folder.append([CALLBACK])  # it is used again
    assert folder.backlog.callbacks == 1
    folder.close()


def test_a_file_that_could_not_be_drained_is_named(tmp_path: Path) -> None:
    (tmp_path / "spool-0-1-2.damaged").write_bytes(b"x" * ((1 << 20) - 5) + msgspec.msgpack.encode(CALLBACK))

    result = SpoolFiles(tmp_path, SEARCH).erase(dry_run=False)

    assert (result.found, result.left) == (1, 1)
    assert "spool-0-1-2.damaged" in result.why
    assert SpoolFiles(tmp_path / "none", SEARCH).erase(dry_run=False).is_complete
