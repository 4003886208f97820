"""What senders really send: each body of the conformance set is answered and read as its file says.

`tests/acceptance/test_payloads.py` does the same through the real processes.
"""

import json
from typing import Any, Final

import pytest

from callbacks.cli import body_check
from shared.batches import Quarantined
from shared.schema import Kind
from tests import payload_cases
from tests.payload_cases import Case

CASES: Final = payload_cases.load()
KINDS: Final = {"times", "numbers", "statuses", "texts", "shapes", "encodings", "identity", "refused"}
_URL_KINDS: Final[dict[str, Kind]] = {"status": "status", "reply": "reply"}
_MAX_BODY_BYTES: Final = 4 << 20


def test_the_set_has_cases_of_each_kind() -> None:
    assert {case.name.partition("/")[0] for case in CASES} == KINDS
    assert all(case.events or case.name.startswith("refused/") for case in CASES)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_body_is_answered_and_read_as_its_file_says(case: Case) -> None:
    differences: list[str] = []
    events: dict[str, dict[str, Any]] = {}
    errors: list[str] = []
    unreadable: list[tuple[str, ...]] = []
    for post in case.posts:
        headers = [(name.lower().encode(), value.encode()) for name, value in post.headers.items()]
        kind = _URL_KINDS.get(post.to.strip("/"))
        answered = body_check.answer(post.body, headers, kind, max_body_bytes=_MAX_BODY_BYTES)
        differences += post.differences(answered.status, answered.document)
        if answered.kept == "quarantined":
            errors += [entry.error for entry in answered.entries if isinstance(entry, Quarantined)]
        for record in body_check.read_records(answered):
            if record.event is None:
                errors.append(record.error)
            elif record.event.id not in events:
                events[record.event.id] = json.loads(record.event.to_json())
                unreadable.append(tuple(record.unreadable))

    assert differences + case.differences(list(events.values()), errors) == []
    assert sorted(unreadable) == sorted(expected.unreadable for expected in case.events)
