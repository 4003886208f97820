"""The numbers in the pages' prose are those of the code."""

import inspect
import re

import pytest

import callbacks
from callbacks.ops.access import sessions
from callbacks.ops.status import audit_cache
from shared import live, retention, settings
from shared.setting_groups.web import MAX_BODY_BYTES
from tests.docs import pages
from workers.deliver import delivery, retries
from workers.handlers.jsonl import recent_ids
from workers.handlers.stream import redis_stream
from workers.runtime import outcome, settlement

_WORDS = {2: "two", 3: "third", 12: "twelve"}
_DAY = 86_400
_OPTIONS = {name: option.default for name, option in inspect.signature(callbacks.handler).parameters.items()}
_SETTINGS = settings.load({})

NUMBERS = (
    ("docs/handlers.md", f"longer than `timeout_seconds` ({_OPTIONS['timeout_seconds']})"),
    ("docs/handlers.md", f"up to `attempts` calls ({_OPTIONS['attempts']}, which takes an hour and a half)"),
    ("docs/handlers.md", f"({outcome._MAX_RETRY_SECONDS / _DAY:.0f} days at most)"),
    ("docs/handlers.md", f"the {_WORDS[settlement.MAX_DEATHS]} time, it is a dead letter"),
    ("docs/built-in-handlers.md", f"the last {int(_SETTINGS.stream_maxlen):,} entries"),
    ("docs/built-in-handlers.md", f"every {int(_SETTINGS.jsonl_max_bytes) >> 20} MiB"),
    ("docs/built-in-handlers.md", f"comes again after {redis_stream.MAX_RECENT_IDS:,} others"),
    ("docs/built-in-handlers.md", f"(`jsonl`: {recent_ids.MAX_RECENT_IDS:,})"),
    ("docs/guarantees.md", f"are kept for {retention.FAILURE_DAYS} days"),
    ("docs/operations.md", f"They are kept for `CALLBACKS_FAILURES_RETENTION_DAYS` ({retention.FAILURE_DAYS}) days"),
    ("docs/operations.md", f"at most {live.MAX_EVENTS_PER_SECOND} a second"),
    ("docs/performance.md", "The marks are kept for a day by default" if _SETTINGS.dedupe_seconds == _DAY else ""),
    ("docs/guarantees.md", "the last quarter of a second" if delivery._SETTLE_SECONDS == 0.25 else ""),
    ("SECURITY.md", f"read at most {audit_cache.MAX_JOBS:,} jobs"),
    ("SECURITY.md", f"after {_WORDS[sessions.IDLE_SECONDS // 3600]} idle hours"),
    ("SECURITY.md", f"after {_WORDS[sessions.MAX_SECONDS // 3600]} in any case"),
    ("CHANGELOG.md", f"at most {MAX_BODY_BYTES >> 20} MiB"),
    ("CHANGELOG.md", f"reads at most {audit_cache.MAX_JOBS:,} jobs"),
)


@pytest.mark.parametrize(("page", "sentence"), NUMBERS)
def test_each_number_is_that_of_the_code(page: str, sentence: str) -> None:
    assert sentence, "the number is another in the code"
    assert sentence in re.sub(r"\s+", " ", pages.text(page))


def test_the_waits_between_attempts_grow_as_the_page_says() -> None:
    waits = [round(sum(retries.backoff_seconds(attempt) for _ in range(100)) / 100) for attempt in (1, 2, 3)]
    hours = sum(retries.backoff_seconds(attempt) for attempt in range(1, _OPTIONS["attempts"])) / 3600

    assert f"is retried after {', '.join(map(str, waits))}, … seconds" in pages.text("docs/handlers.md")
    assert 1.2 < hours < 1.8, "an hour and a half"
