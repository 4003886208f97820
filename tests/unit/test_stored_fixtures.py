"""The fixtures have each form of what is stored, so that no later release forgets to read one of them.

What this release adds to a stored form is in the fixture of its version, or one of these tests fails.
"""

import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

import msgspec
import pytest
from msgspec import Struct

from callbacks.ops.notices.condition_state import ConditionState
from callbacks.ops.notices.notice import Notice
from shared import batches, events, keys, queues
from shared.retention import RetentionState
from tests.acceptance.stored import fixture
from workers.admin.bulk_action import RemainingRetries, RemainingWork
from workers.deliver.delivery_log import RINGS
from workers.failures.failure import DEAD_LETTER_FIELDS, QUARANTINED_CALLBACK_FIELDS
from workers.filters import Filters
from workers.handlers.sql import tables
from workers.runtime import pause

STORED: Final = [fixture.read(path) for path in fixture.paths()]
VALUES: Final[dict[str, Any]] = {name: one["value"] for stored in STORED for name, one in stored["redis"].items()}
FILES: Final[dict[str, dict[str, Any]]] = {name: one for stored in STORED for name, one in stored["files"].items()}
MISSING: Final = f"no fixture has it; {fixture.COMMAND}"

_ROW: Final = re.compile(
    r"^    (cb:\S.*?) {2,}(?:hash|list|set|string|zset) |^    (cb:\S+:<2 hex digits>)$", re.MULTILINE
)
PATTERNS: Final = sorted({found[1] or found[2] for found in _ROW.finditer(keys.__doc__ or "")})
_PAUSE_FIELD: Final = re.compile(r"^    (?:cb:paused:<handler>)? +([a-z_]+) {2,}", re.MULTILINE)
# Nothing of ours makes them when it is asked to: reading a callback raised something unforeseen; a probe is running.
UNFORESEEN: Final = {"traceback"}
WHILE_PROBING: Final = {"probe"}


def as_regex(pattern: str) -> str:
    return "".join(".+" if part.startswith("<") else re.escape(part) for part in re.split(r"(<[^>]*>)", pattern))


def fields_of(prefix: str) -> set[str]:
    """Return the fields of all hashes whose key begins so."""
    return {
        field
        for name, value in VALUES.items()
        if name.startswith(prefix) and isinstance(value, dict)
        for field in value
    }


def named_in(text: str) -> set[str]:
    return set(re.findall(r"`([a-z]+)`", text))


@pytest.mark.parametrize("pattern", PATTERNS)
def test_each_key_is_in_a_fixture(pattern: str) -> None:
    assert any(re.fullmatch(as_regex(pattern), name) for name in VALUES), MISSING


def test_each_key_of_ours_in_a_fixture_is_documented() -> None:
    assert len(PATTERNS) > 30
    for name in VALUES:
        if name.startswith("cb:"):
            assert any(re.fullmatch(as_regex(pattern), name) for pattern in PATTERNS), name


def test_each_field_of_ours_in_a_job_and_a_run_is_in_a_fixture() -> None:
    _, _, text = (keys.__doc__ or "").partition("A job's hash")
    job, _, run = text.partition("A run's hash")

    assert len(named_in(job)) >= 10, "the paragraph of shared/keys.py was not found"
    assert named_in(job) - {"rq"} <= fields_of("rq:job:"), MISSING
    assert named_in(run) - {"rq"} <= fields_of("rq:execution:"), MISSING


@pytest.mark.parametrize(
    ("prefix", "fields"),
    [
        ("cb:quarantine:", {*QUARANTINED_CALLBACK_FIELDS} - UNFORESEEN),
        ("cb:dead:shop:", {*DEAD_LETTER_FIELDS}),
        ("cb:paused:", {*_PAUSE_FIELD.findall(pause.__doc__ or "")} - WHILE_PROBING),
    ],
)
def test_each_field_of_a_hash_is_in_a_fixture(prefix: str, fields: set[str]) -> None:
    assert len(fields) > 5
    assert fields <= fields_of(prefix), MISSING


@pytest.mark.parametrize(
    ("struct", "texts"),
    [
        (Filters, VALUES[keys.FILTERS].values()),
        (RetentionState, VALUES[keys.RETENTION].values()),
        (RemainingWork, [value["work"] for name, value in VALUES.items() if name.endswith(":work")]),
        (RemainingRetries, [value["work"] for name, value in VALUES.items() if name.endswith(":work")]),
        (ConditionState, [VALUES[keys.NOTICES]]),
        (Notice, [VALUES[keys.NOTICES]]),
    ],
)
def test_each_field_of_a_value_is_in_a_fixture(struct: type[Struct], texts: Iterable[str]) -> None:
    fields = set(struct.__struct_encode_fields__)

    assert any(fields <= set(found) for text in texts for found in objects_in(json.loads(text))), MISSING


def objects_in(value: Any) -> Iterable[dict[str, Any]]:
    if isinstance(value, dict):
        yield value
    for part in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from objects_in(part)


def test_each_form_of_an_event_and_of_a_callback_is_in_a_fixture() -> None:
    portions = [event for text in VALUES[keys.PORTIONS].values() for event in json.loads(f"[{text}]")]
    jobs = [json.loads(value["data"]) for name, value in VALUES.items() if name.startswith("rq:job:")]
    own = [event for function, _, words, _ in jobs if function == queues.DELIVER_JOB for event in words[-1]]
    callbacks = [one for function, _, words, _ in jobs if function == queues.EXPAND_JOB for one in words[-1]]

    assert {event[0] for event in (*portions, *own)} == set(events._STRUCTS), MISSING
    assert any(events.read_trace(msgspec.json.encode(event)) for event in (*portions, *own)), f"traced: {MISSING}"
    fields = len(batches.Accepted.__struct_fields__)
    assert {(type(one[fields - 1]), len(one) > fields) for one in callbacks} >= {
        (dict, False),
        (dict, True),
        (str, False),
    }, MISSING
    assert {one[0] for one in callbacks} == {"status", "reply"}, MISSING


def test_each_table_has_rows_in_a_fixture() -> None:
    for table in tables.metadata.tables:
        assert f'INSERT INTO "{table}"' in FILES["callbacks.db"]["sql"], f"{table}: {MISSING}"


def test_each_kind_of_file_is_in_a_fixture() -> None:
    suffixes = {"".join(Path(name).suffixes[-2:]) for name in FILES if name.startswith("events/")}
    assert {suffix.rpartition("Z")[2] for suffix in suffixes} == {".jsonl", ".jsonl.gz"}, MISSING
    assert any("INSERT INTO" in one["sql"] for name, one in FILES.items() if name.startswith("spool/")), MISSING
    assert any(name.startswith("run/deliver-killed-") for name in FILES), MISSING
    assert {name.split(":")[2] for name in VALUES if name.startswith("cb:deliveries:")} == set(RINGS), MISSING
