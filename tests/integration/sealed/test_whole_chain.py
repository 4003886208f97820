"""From its receipt to its end, nothing that a file of Redis or of the spool holds shows a number or a text.

The append-only file has all that was ever written, also what is deleted by now.
"""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from callbacks import Event, Pause, ReplyEvent, ReportEvent, Retry, handler
from ingest.spool.folder import SpoolFolder
from shared import batches, keys, sealed_data
from shared.batches import Quarantined
from tests.integration.harness import Harness, due_now, open_harness, record, reply, status
from tests.integration.sealed.conftest import OLD
from tests.redis_server import RedisServer
from tests.text_forms import forms_of
from workers.admin.action_log import Action
from workers.admin.bulk_action import BulkActions, RemainingWork
from workers.admin.delivery_history import read_history
from workers.admin.retry_rows import RetryFilter
from workers.admin.scheduled_retries import ScheduledRetries
from workers.failures.cursor import Cursor, FailureFilter
from workers.failures.failure_list import QUARANTINE, dead_letters_of
from workers.failures.store import FailureStore
from workers.runtime import pause

SEALED, PLAIN = ("35699711201", "Zwetschgenknödel um acht"), ("35699711202", "Marillenknödel um neun")
# Masking leaves it in an error.
MAIL = {SEALED: "anna.maier@example.com", PLAIN: "otto.huber@example.com"}
delivered: list[Event] = []


def quote(event: Event) -> str:
    mail = getattr(event, "client_message_id", None)
    return f"no customer {mail}, {event.sender} / {event.recipient}: {getattr(event, 'text', None)!r}, {event.raw}"


@handler(ReportEvent, ReplyEvent)
def delivers(event: Event) -> None:
    delivered.append(event)


@handler(ReportEvent, ReplyEvent, attempts=1)
def dies(event: Event) -> None:
    raise ValueError(quote(event))


@handler(ReportEvent, ReplyEvent, attempts=3)
def retries(event: Event) -> None:
    raise Retry(after_seconds=3600, reason=quote(event))


@handler(ReportEvent, concurrency=1)
def pauses(event: ReportEvent) -> None:
    raise Pause(3600, quote(event))


@pytest.mark.parametrize(("number", "text"), [SEALED, PLAIN])
def test_no_file_shows_them_if_there_is_a_key(
    number: str, text: str, server: RedisServer, url: str, tmp_path: Path
) -> None:
    is_sealed = (number, text) == SEALED
    sealed_data.use([OLD] if is_sealed else [])
    delivered.clear()
    with open_harness(url, delivers, dies, retries, pauses) as harness, server.client() as client:
        folder = SpoolFolder(tmp_path / "spool", limit_bytes=1 << 20)
        play(harness, folder, number, text)
        mail = MAIL[number, text]
        search_by(harness, mail)
        client.save()
        files = [*contents(server.folder), *contents(tmp_path / "spool")]
        shown = {form for form in (*forms_of(number, text), mail.encode()) if any(form in content for content in files)}
        folder.close()
        paused = pause.read_state(harness.connection, "pauses")
        scheduled = [*ScheduledRetries(harness.connection).iterate(RetryFilter(handler="retries", error=mail))]
        ids: list[str] = client.zrange(keys.dead("dies"), 0, -1)
        history = read_history(harness.connection, dict.fromkeys(ids, 0))
        attempts = [one for each in history.attempts.values() for one in each]

        assert paused is not None
        assert mail in paused.reason
        assert scheduled
        assert any(mail in one.error for one in attempts)
        assert {event.recipient for event in delivered} == {number, "Fortytwo", "35699000001"}
        assert text in {event.text for event in delivered if isinstance(event, ReplyEvent)}
        assert harness.audit().balances
        if is_sealed:
            assert not shown
        else:
            assert {number.encode(), text.encode(), mail.encode()} <= shown


def play(harness: Harness, spool: SpoolFolder, number: str, text: str) -> None:
    """Let callbacks with both in every field pass all stages; replay what could not be read or delivered."""
    theirs = record("m-1", to=number, client_message_id=MAIL[number, text], remark=text, **{"from": number})
    unreadable = {"to": number, "status": ["UNDELIV"], "text": text}
    callbacks = [
        status(theirs, record("m-2"), {**unreadable, "message_id": {"of": number}}, client_job_id=text),
        reply("r-1", text=text),
        reply("r-2", text=f"{text} {number}"),
        status(theirs),
    ]
    body = json.dumps({"data": unreadable}).encode()
    plain = Quarantined(kind="status", source="gw", received_ms=batches.now_ms(), error=f"odd {number}", body=body)
    refused = Quarantined(
        kind="reply",
        source="gw",
        received_ms=batches.now_ms(),
        error="odd",
        body=f"{number} {text}".encode("utf-16"),
        refused=400,
        headers={"content-type": f"text/plain; name={number}"},
    )
    spool.append([*callbacks, plain, refused])
    harness.accept(*callbacks, quarantined=[plain, refused, refused])
    harness.expand()
    for function in (delivers, dies, retries, pauses):
        harness.deliver(function)
    due_now(harness, retries)
    harness.deliver(retries)
    failures = FailureStore(harness.connection)
    for failure_list in (QUARANTINE, dead_letters_of("dies")):
        for _ in failures.replay(failure_list, failures.snapshot(failure_list)):
            pass
    harness.expand()
    harness.deliver(dies)


def search_by(harness: Harness, text: str) -> None:
    """Begin to replay what a text is in: what is left to do waits with it."""
    work = RemainingWork(
        task="replay", handler="dies", failure_filter=FailureFilter(error=text), cursor=Cursor.before(1 << 42)
    )
    action = Action(who="anna", by="page", what="replay", where="dead:dies", chosen="some")
    actions = BulkActions(harness.connection)
    state = actions.get_state(actions.start(action, work))
    assert state is not None
    assert state.work == work


def contents(folder: Path) -> Iterator[bytes]:
    yield from (path.read_bytes() for path in folder.rglob("*") if path.is_file())
