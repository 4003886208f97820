"""The files that `callbacks new` writes."""

from collections.abc import Mapping
from string import Template
from typing import Final

from shared import settings

_HANDLER: Final = '''\
"""The handler `$module`: records messages that did not reach their recipients."""

import sqlite3
from contextlib import closing
from pathlib import Path

from callbacks import Reject, ReportEvent, Retry, handler

FILE = Path("$module.db")
_TABLE = """
    CREATE TABLE IF NOT EXISTS failed
    (event_id TEXT PRIMARY KEY, client_message_id TEXT, status TEXT)
"""


@handler(ReportEvent, statuses={"UNDELIV", "REJECTD", "EXPIRED"})
def $module(event: ReportEvent) -> None:
    """Record the message. Replace this with what your project does.

    A status is about one channel: SMS may still deliver what Viber did not.
    `callbacks.history.arrival_of(event)` knows, some minutes later.

    When this returns, the event is done. After any exception it is called again,
    with growing waits. After the last attempt the event is a dead letter, which
    `callbacks dead` shows and replays.
    """
    if event.client_message_id is None:
        # A dead letter at once: another attempt would not help.
        raise Reject("the report has no client_message_id")
    try:
        _record(event.id, event.client_message_id, event.status)
    except sqlite3.OperationalError as exc:
        # Another attempt after a minute: the file is locked, or the disk is full.
        raise Retry(after_seconds=60, reason=f"{FILE.name}: {exc}") from exc


def _record(event_id: str, message: str, status: str) -> None:
    # If a worker is killed during a call, the event comes again, with the same id:
    # as the primary key, it makes the effect happen once.
    with closing(sqlite3.connect(FILE, timeout=10)) as database, database:
        database.execute(_TABLE)
        row = (event_id, message, status)
        database.execute("INSERT OR IGNORE INTO failed VALUES (?, ?, ?)", row)
'''

_TEST: Final = '''\
"""Tests the handler `$module` with the fixtures and checks of callbacks."""

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from callbacks import ReportEvent
from callbacks.testing import Conformance, Result

import $module

Report = Callable[..., ReportEvent]
Deliver = Callable[[Callable[[ReportEvent], None], ReportEvent], Result]


@pytest.fixture(autouse=True)
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "$module.db"
    monkeypatch.setattr($module, "FILE", path)
    return path


def recorded() -> list[tuple[str, str]]:
    if not $module.FILE.is_file():
        return []
    with closing(sqlite3.connect($module.FILE)) as database:
        query = "SELECT client_message_id, status FROM failed"
        return database.execute(query).fetchall()


def test_a_message_that_did_not_arrive_is_recorded(
    callbacks_report: Report,
    callbacks_deliver: Deliver,
) -> None:
    event = callbacks_report("EXPIRED", client_message_id="order-7")

    assert callbacks_deliver($module.$module, event).outcome == "done"
    assert recorded() == [("order-7", "EXPIRED")]


def test_a_message_that_arrived_is_not(
    callbacks_report: Report,
    callbacks_deliver: Deliver,
) -> None:
    event = callbacks_report("DELIVRD")

    assert callbacks_deliver($module.$module, event).outcome == "filtered"
    assert recorded() == []


def test_a_report_without_the_id_of_the_client_is_rejected(
    callbacks_report: Report,
    callbacks_deliver: Deliver,
) -> None:
    event = callbacks_report("UNDELIV", client_message_id=None)

    assert callbacks_deliver($module.$module, event).outcome == "rejected"


def test_if_the_file_cannot_be_opened_it_is_retried(
    callbacks_report: Report,
    callbacks_deliver: Deliver,
    file: Path,
) -> None:
    file.mkdir()
    event = callbacks_report("UNDELIV")

    assert callbacks_deliver($module.$module, event).outcome == "retry"


class Test$class_name(Conformance):
    handler = $module.$module

    def effects(self) -> list[tuple[str, str]]:
        return recorded()
'''

_ENV: Final = """\
# The settings of this folder. The token is a secret, so this file is not for version control.
CALLBACKS_HANDLERS=$module
CALLBACKS_TOKENS=gateway=$token
# The gateway, and this machine.
CALLBACKS_ALLOWED_IPS=$gateway,127.0.0.1,::1
# For `honcho start`; `callbacks dev` has a Redis of its own.
# REDIS_URL=redis://127.0.0.1:6379/0
"""

_PROCFILE: Final = """\
web: HOST=$${HOST:-0.0.0.0} callbacks web
expand: callbacks worker expand
deliver: callbacks worker deliver
ops: callbacks ops
"""

_GITIGNORE: Final = """\
.env
var/
*.db
__pycache__/
.pytest_cache/
"""

_README: Final = """\
# $name

`$module.py` has the handler `$module`, which is called for each message that did not reach its recipient.

| to | do, in this folder |
|---|---|
| test it | `python -m pytest` |
| run the whole service on this machine | `callbacks dev` |
| send it an event, in another terminal | `callbacks simulate --sample undelivered` |
| run the service with a Redis of yours | set `REDIS_URL` in `.env`, then `honcho start` |

If pytest or honcho is missing: `pip install pytest honcho`. The Redis needs `appendonly yes` and
`appendfsync always`; `callbacks check` says what is wrong. `.env` has the settings, and the token of the callback URLs,
which is a secret: `https://YOUR-HOST/callbacks/TOKEN/status` and `…/reply`.
"""


def make(*, name: str, module: str, token: str) -> Mapping[str, str]:
    """Return the files by name."""
    values = {
        "name": name,
        "module": module,
        "class_name": module.title().replace("_", ""),
        "token": token,
        "gateway": next(row.default for row in settings.table_rows() if row.variable == "CALLBACKS_ALLOWED_IPS"),
    }
    templates = {
        f"{module}.py": _HANDLER,
        f"test_{module}.py": _TEST,
        ".env": _ENV,
        "Procfile": _PROCFILE,
        "README.md": _README,
        ".gitignore": _GITIGNORE,
    }
    return {file: Template(text).substitute(values) for file, text in templates.items()}
