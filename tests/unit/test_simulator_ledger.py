"""The ledger: one line per callback that is over, readable whatever happened meanwhile."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from callbacks.simulator.campaign import plan
from callbacks.simulator.delivery import Attempt, CallbackDelivery
from callbacks.simulator.errors import InvalidOption, LedgerNotReadable, LedgerNotWritten
from callbacks.simulator.ledger import Ledger, read, unique_events
from callbacks.simulator.oddities import ODDITIES
from callbacks.simulator.options import CampaignOptions

NOW = datetime(2015, 9, 25, 7, 12, 54, tzinfo=UTC)
ACKNOWLEDGED = Attempt(NOW, 1.5, 200)
FAILED = Attempt(NOW, 1.5, 503, "503: overload")
CAMPAIGN = plan(CampaignOptions(destinations=20, replies=5), start_at=NOW)
STATUS = next(callback for callback in CAMPAIGN.callbacks if callback.kind == "status")
REPLY = next(callback for callback in CAMPAIGN.callbacks if callback.kind == "reply")


def test_what_was_written_is_read_again(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    with Ledger(path) as ledger:
        ledger.write(CallbackDelivery(STATUS, [FAILED, ACKNOWLEDGED]))
        ledger.write(CallbackDelivery(REPLY, [FAILED, FAILED, FAILED]))
    kept, lost = read(path)

    assert (kept.kind, kept.acknowledged, kept.acknowledged_at) == ("status", True, NOW)
    assert kept.attempts == (FAILED, ACKNOWLEDGED)
    assert kept.body.encode() == STATUS.bodies[0].data
    assert kept.reports == STATUS.bodies[0].reports

    assert (lost.kind, lost.acknowledged, lost.acknowledged_at) == ("reply", False, None)
    assert lost.body.encode() == REPLY.bodies[2].data
    assert lost.replies == REPLY.bodies[2].replies
    assert lost.req_uuids == tuple(body.replies[0][1] for body in REPLY.bodies)


def test_an_odd_callback_is_named_and_bytes_that_are_not_utf_8_are_escaped(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    oddity = next(oddity for oddity in ODDITIES if oddity.name == "encodings/mark-of-utf-16-little-endian")
    callback = oddity.write(STATUS, 0)
    assert callback is not None
    with Ledger(path) as ledger:
        ledger.write(CallbackDelivery(callback, [ACKNOWLEDGED]))
    [entry] = read(path)

    assert entry.oddity == oddity.name
    assert entry.body.startswith("\\xff\\xfe{\0")
    assert entry.reports == STATUS.bodies[0].reports


def test_only_what_was_acknowledged_must_have_arrived_and_once(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    with Ledger(path) as ledger:
        for callback in CAMPAIGN.callbacks:
            lost = callback.bodies[0].data == STATUS.bodies[0].data
            ledger.write(CallbackDelivery(callback, [FAILED] * 3 if lost else [ACKNOWLEDGED]))
    unique = unique_events(read(path))
    assert len(unique.reports) == CAMPAIGN.reports - len(STATUS.bodies[0].reports)
    assert unique.reports.isdisjoint(STATUS.bodies[0].reports)
    assert len(unique.replies) == 5


def test_a_second_run_appends(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    for _ in range(2):
        with Ledger(path) as ledger:
            ledger.write(CallbackDelivery(STATUS, [ACKNOWLEDGED]))
    assert len(read(path)) == 2


def test_lines_are_there_before_the_ledger_is_closed(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    with Ledger(path) as ledger:
        ledger.write(CallbackDelivery(STATUS, [ACKNOWLEDGED]))
        assert len(read(path)) == 1


def test_a_last_line_still_being_written_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    with Ledger(path) as ledger:
        ledger.write(CallbackDelivery(STATUS, [ACKNOWLEDGED]))
    with path.open("a") as file:
        file.write('{"kind":"sta')
    assert len(read(path)) == 1


@pytest.mark.parametrize("line", [b'{"kind":"status"}\n', b"not JSON\n", b'"\xff"\n'])
def test_a_damaged_line_is_named(tmp_path: Path, line: bytes) -> None:
    path = tmp_path / "ledger.jsonl"
    path.write_bytes(line)
    with pytest.raises(LedgerNotReadable, match=r"ledger\.jsonl, line 1: "):
        read(path)


def test_a_ledger_that_cannot_be_opened_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidOption, match="cannot be written: Is a directory"):
        Ledger(tmp_path)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_full_disk_is_told() -> None:
    with Ledger(Path("/dev/full")) as ledger, pytest.raises(LedgerNotWritten, match="No space left on device"):
        ledger.write(CallbackDelivery(STATUS, [ACKNOWLEDGED]))
