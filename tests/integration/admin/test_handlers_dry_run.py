"""`callbacks handlers try`: a handler is called as a worker calls it, without Redis."""

import json
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from callbacks import samples
from tests.acceptance.processes import run

HANDLERS = """
import asyncio
import subprocess
import sys
from contextlib import asynccontextmanager, contextmanager
from callbacks import Pause, Reject, ReplyEvent, ReportEvent, Retry, handler

@handler(ReportEvent, attempts=3, timeout_seconds=0.2, statuses={"UNDELIV"})
def refund(event):
    print("refunding", event.message_id)
    {"raises": lambda: int("x"), "hangs": lambda: [None for _ in iter(int, 1)], "exits": exit}.get(
        event.client_message_id, lambda: None
    )()

@handler(ReplyEvent)
async def answer(event):
    await asyncio.sleep(0)
    return {"retry": Retry(5, "busy"), "reject": Reject("spam"), "pause": Pause(60, "shut")}.get(event.text)

@contextmanager
def pool():
    print("opened")
    yield
    print("closed")

@asynccontextmanager
async def shut():
    raise OSError("nobody there")
    yield

@handler(ReportEvent, lifespan=pool)
def pooled(event):
    print("called")

@handler(ReportEvent, lifespan=shut)
async def unready(event):
    print("called")

@handler(ReportEvent)
def writer(event):
    print("text")
    sys.stdout.buffer.write(b"bytes ")
    sys.stdout.flush()
    subprocess.run(["printf", "child "], stdout=sys.stdout, check=True)
    print(event.status, file=sys.stderr)

@handler(ReportEvent, batch=True)
def archive(events):
    print(len(events), "events")
    if any(event.status == "SEEN" for event in events):
        raise RuntimeError("not SEEN")
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "shop.py").write_text(HANDLERS)
    return tmp_path


def attempt(folder: Path, *words: str, event: str = "") -> "CompletedProcess[str]":
    (folder / "event").write_text(event)
    given = ("--event", "event") if event else ()
    return run("handlers", "try", *words, *given, cwd=folder, environment={"CALLBACKS_HANDLERS": "shop"})


def report(**fields: str) -> str:
    return samples.report("UNDELIV", **fields).to_json()


def test_what_is_printed_in_any_way_is_in_the_json(folder: Path) -> None:
    given = report() + "\n" + samples.report("SEEN").to_json()
    found = [json.loads(line) for line in attempt(folder, "writer", "--json", event=given).stdout.splitlines()]

    assert [one["outcome"] for one in found] == ["done", "done"], found
    assert [one["printed"] for one in found] == ["text\nbytes child UNDELIV\n", "text\nbytes child SEEN\n"]


def test_the_handler_log_prints_its_line_in_the_json(folder: Path) -> None:
    ended = run("handlers", "try", "log", "--sample", "reply", "--json", cwd=folder, environment={})

    one = json.loads(ended.stdout)
    assert (ended.returncode, one["outcome"]) == (0, "done"), one
    assert [json.loads(one["printed"])["id"]] == one["events"]


def test_success_is_reported_with_what_was_printed(folder: Path) -> None:
    event = samples.report("UNDELIV")
    ended = attempt(folder, "refund", event=event.to_json())

    assert ended.returncode == 0, ended.stderr
    printed, said = ended.stdout.splitlines()
    assert printed == f"refunding {event.message_id}"
    assert said.startswith(f"✓ refund, report {event.id} (UNDELIV): done (")


@pytest.mark.parametrize(
    ("order", "words"),
    [
        ("raises", "failed, it raised: ValueError: invalid literal"),
        ("hangs", "failed, it timed out: "),
        ("exits", "failed, it called exit(): SystemExit"),
    ],
)
def test_an_error_is_reported_with_its_traceback_and_exit_code_1(folder: Path, order: str, words: str) -> None:
    ended = attempt(folder, "refund", event=report(client_message_id=order))

    assert ended.returncode == 1
    assert words in ended.stdout
    assert "up to 3 attempts" in ended.stdout
    assert 'shop.py", line' in ended.stdout
    assert "calling.py" not in ended.stdout


@pytest.mark.parametrize(
    ("text", "outcome", "words"),
    [
        ("retry", "retry", "asks for a retry: busy A worker would retry it after 5 s, up to 8 attempts."),
        ("reject", "rejected", "rejected: spam A worker would make it a dead letter at once."),
        ("pause", "paused", "asks for a pause of 60 s: shut A worker would pause the handler for that long."),
    ],
)
def test_a_retry_a_pause_or_a_rejection_is_reported_with_exit_code_1(
    folder: Path, text: str, outcome: str, words: str
) -> None:
    ended = attempt(folder, "answer", "--json", event=samples.reply(text).to_json())

    assert ended.returncode == 1
    one = json.loads(ended.stdout)
    assert one["outcome"] == outcome
    assert f"{one['sentence']} {one['consequence']}" == words


def test_an_event_that_the_filters_leave_out_reaches_the_handler_only_with_force(folder: Path) -> None:
    ended = attempt(folder, "refund", "--sample", "delivered")
    assert ended.returncode == 1
    assert "left out by its filters: it takes statuses={'UNDELIV'}, and this is 'DELIVRD'" in ended.stdout
    assert "refunding" not in ended.stdout

    forced = attempt(folder, "refund", "--sample", "delivered", "--force")
    assert forced.returncode == 0
    assert "refunding" in forced.stdout


def test_a_batch_handler_gets_all_events_of_a_callback_and_a_failing_batch_is_split(folder: Path) -> None:
    records = [{"message_id": str(number), "status": status} for number, status in enumerate(["ACCEPTD", "SEEN"])]
    ended = attempt(folder, "archive", "--json", event=json.dumps({"data": records}))

    assert ended.returncode == 1
    found = [json.loads(line) for line in ended.stdout.splitlines()]
    assert [(len(one["events"]), one["outcome"], one["printed"]) for one in found] == [
        (2, "failed", "2 events\n"),
        (1, "done", "1 events\n"),
        (1, "failed", "1 events\n"),
    ]


def test_its_lifespan_is_opened_before_and_closed_after_it(folder: Path) -> None:
    ended = attempt(folder, "pooled", "--sample", "seen")

    assert [line.partition(",")[0] for line in ended.stdout.splitlines()] == ["opened", "called", "✓ pooled", "closed"]


def test_a_lifespan_that_fails_is_reported_and_the_handler_is_not_called(folder: Path) -> None:
    ended = attempt(folder, "unready", "--sample", "seen")

    assert ended.returncode == 1
    assert "not called, as its lifespan could not be opened: OSError: nobody there" in ended.stdout
    assert 'shop.py", line' in ended.stdout
    assert "called\n" not in ended.stdout


def test_a_handler_that_is_not_named_is_found_in_the_given_module(folder: Path) -> None:
    (folder / "other.py").write_text(HANDLERS.replace("def archive", "def elsewhere"))
    ended = attempt(folder, "elsewhere", "--from", "other", "--sample", "delivered")

    assert ended.returncode == 0, ended.stderr
    assert "1 events" in ended.stdout


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["refund"], "--sample KIND or --event FILE"),
        (["refund", "--sample", "nonsense"], "there are: accepted, delivered"),
        (["nobody", "--sample", "reply"], "no handler is called 'nobody'; there are: answer, archive"),
        (["refnud", "--sample", "reply"], "no handler is called 'refnud' (did you mean 'refund'?); there are: answer"),
        (["Archiv", "--from", "shop", "--sample", "reply"], "declares no handler 'Archiv' (did you mean 'archive'?);"),
        (["refund", "--sample", "sticky"], "No sample is called 'sticky' (did you mean 'sticker'?); there"),
        (["refund", "--event", "shop.py"], "shop.py: no event can be read"),
        (["refund", "--from", "nowhere", "--sample", "reply"], "nowhere"),
    ],
)
def test_wrong_usage_is_reported_with_exit_code_2(folder: Path, words: list[str], complaint: str) -> None:
    ended = attempt(folder, *words)

    assert ended.returncode == 2
    assert complaint in ended.stderr


def test_a_body_that_is_not_a_callback_is_reported_in_sentences(folder: Path) -> None:
    ended = attempt(folder, "refund", event='{"a": 1}')

    assert ended.returncode == 2
    assert "nor a reply ($.reply_message_id). It takes lines of event.to_json(), the output of" in ended.stderr
