"""`callbacks simulate --sample NAME`: one chosen event, what was sent, and the answer."""

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from callbacks import samples
from callbacks.cli import folder_lock, running_dev
from callbacks.cli.running_dev import RunningDev
from callbacks.cli.simulate import simulate
from shared import wire
from shared.callback_events import from_callback
from shared.events import Event
from shared.schema import Kind
from tests.integration.simulator.receiver import Receiver, always, receiving
from tests.redis_server import free_port

TOKEN = "s3cr3t-token"
ACCEPTED = always(200, text='{"status":"accepted"}')


def called(*arguments: str) -> Result:
    result = CliRunner().invoke(simulate, arguments)
    assert TOKEN not in result.output
    return result


def events_of(receiver: Receiver) -> list[Event]:
    events: list[Event] = []
    for request in receiver.requests:
        kind: Kind = "status" if request.path.endswith("/status") else "reply"
        now = samples.report().received_at
        events += from_callback(wire.read(request.body, kind), source="gateway", received_at=now)
    return events


def test_one_event_is_sent_and_the_answer_printed() -> None:
    with receiving(ACCEPTED) as receiver:
        result = called("--sample", "undelivered", "--to", receiver.base)

    assert result.exit_code == 0, result.output
    (event,) = events_of(receiver)
    assert (event.kind, getattr(event, "status", "")) == ("report", "UNDELIV")
    sent, answered = result.stdout.splitlines()
    assert sent.startswith("sent      report UNDELIV on SMS, message ")
    assert answered == "answered  200 accepted"


def test_every_sample_can_be_sent_and_arrives_as_it_is() -> None:
    with receiving(ACCEPTED) as receiver:
        for name in samples.NAMES:
            result = called(receiver.base, "--sample", name)
            assert result.exit_code == 0, (name, result.output)

    for sent, name in zip(events_of(receiver), samples.NAMES, strict=True):
        sample = samples.one(name)
        assert sent.kind == sample.kind
        for field in ("status", "channel", "text", "error_code"):
            assert getattr(sent, field, None) == getattr(sample, field, None), name


@pytest.mark.parametrize(
    ("arguments", "fields"),
    [
        (
            "delivered --message-id 7 --status undeliv --number +356\u00a099 --channel SMS",
            {"message_id": "7", "status": "UNDELIV", "recipient": "+356\u00a099", "channel": "SMS"},
        ),
        ("undelivered --client-message-id order-7", {"client_message_id": "order-7", "status": "UNDELIV"}),
        ("expired --status FORWARDED", {"status": "FORWARDED"}),
        ("two-factor --message-id 7 --number 356", {"message_id": "7", "recipient": "356", "error_code": 943}),
        ("spelled-otherwise --message-id 7 --client-message-id x", {"message_id": "7", "client_message_id": "x"}),
        (
            "reply --message-id r7 --text Hello --number 356 --channel RCS",
            {"reply_message_id": "r7", "text": "Hello", "sender": "356", "channel": "RCS"},
        ),
        ("sticker --text Hello", {"text": "Hello"}),
    ],
)
def test_options_set_the_fields_of_the_event(arguments: str, fields: dict[str, Any]) -> None:
    with receiving(ACCEPTED) as receiver:
        result = called(receiver.base, "--sample", *arguments.split(" "))

    assert result.exit_code == 0, result.output
    (event,) = events_of(receiver)
    assert {field: getattr(event, field) for field in fields} == fields


@pytest.mark.parametrize("name", samples.NAMES)
def test_the_same_message_id_twice_is_a_repeat_and_without_one_it_is_not(name: str) -> None:
    with receiving(ACCEPTED) as receiver:
        for arguments in (["--message-id", "7"], ["--message-id", "7"], [], []):
            assert called(receiver.base, "--sample", name, *arguments).exit_code == 0

    ids = [event.id for event in events_of(receiver)]
    assert ids[0] == ids[1]
    assert len(set(ids)) == 3


@pytest.mark.parametrize(
    ("status", "text", "words"),
    [
        (200, '{"status":"quarantined","error":"no status"}', "answered  200 quarantined: no status"),
        (
            404,
            '{"title":"Not found","status":404,"detail":"No URL."}',
            "answered  404: unknown token or path (No URL.)",
        ),
        (503, '{"title":"Callback could not be stored"}', "answered  503: callback could not be stored"),
        (204, "", "answered  204: only 200 is success"),
    ],
)
def test_any_other_answer_is_exit_1_and_says_why(status: int, text: str, words: str) -> None:
    with receiving(always(status, text=text)) as receiver:
        result = called(receiver.base, "--sample", "reply")

    assert result.exit_code == 1
    assert words in result.stderr.splitlines()
    assert len(receiver.requests) == 1


def test_a_receiver_that_is_not_there_is_exit_1_and_says_what_to_do() -> None:
    result = called("--sample", "reply", "--to", f"http://127.0.0.1:{free_port()}/callbacks/{TOKEN}")

    assert result.exit_code == 1
    assert result.stderr.startswith("failed    connection refused\nStart the service there")


def test_json_is_one_object() -> None:
    with receiving(ACCEPTED) as receiver:
        result = called(receiver.base, "--sample", "reply", "--text", "Hello", "--json")

    printed = json.loads(result.stdout)
    assert printed["sent"] == json.loads(receiver.requests[0].body)
    assert (printed["status"], printed["accepted"], printed["reason"]) == (200, True, None)


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--sample", "undeliverd"], "No sample is called 'undeliverd' (did you mean 'undelivered'?); there are: "),
        (["--sample", "reply", "--status", "SEEN"], "--status cannot be set for the sample 'reply', which is a reply."),
        (["--sample", "seen", "--text", "x"], "--text cannot be set for the sample 'seen', which is a report."),
        (["--sample", "seen", "--message-id", ""], "No callback can have these values: "),
        (["--message-id", "7"], "--message-id is for one event: add --sample NAME."),
        (["--sample", "seen", "--destinations", "5"], "--destinations is for a campaign: remove it, or --sample."),
        (["--sample", "seen", "--ledger", "x"], "--ledger is for a campaign: remove it, or --sample."),
        (["--to", "http://127.0.0.1:9/x"], "Give the URL once: as URL or as --to URL."),
    ],
)
def test_wrong_usage_is_exit_2(arguments: list[str], complaint: str) -> None:
    result = called(f"http://127.0.0.1:9/callbacks/{TOKEN}", *arguments)

    assert result.exit_code == 2
    assert complaint in result.stderr


def test_the_help_lists_the_samples() -> None:
    text = called("--help").output.replace("-\n", "-")

    for name in samples.NAMES:
        assert name in " ".join(text.split()).replace("- ", "-")


def test_their_names_are_completed() -> None:
    words = {"_CALLBACKS_COMPLETE": "bash_complete", "COMP_WORDS": "callbacks --sample und", "COMP_CWORD": "2"}

    ended = CliRunner().invoke(simulate, prog_name="callbacks", env=words)

    assert ended.output.strip() == "plain,undelivered"


@pytest.mark.parametrize("arguments", [["--sample", "seen"], ["--destinations", "3", "--replies", "0"]])
def test_without_a_url_it_uses_the_dev_that_runs_in_this_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert called(*arguments).exit_code == 2
    with receiving(ACCEPTED) as receiver, folder_lock.lock(running_dev.DEFAULT_FOLDER, owner="dev"):
        running_dev.write(running_dev.DEFAULT_FOLDER, RunningDev("redis://", "log", receiver.base))
        result = called(*arguments)

    assert result.exit_code == 0, result.output
    assert receiver.requests
    assert result.stderr == "No URL is given: this uses the `callbacks dev` in var/dev\n"


def test_without_a_url_and_without_dev_it_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    result = called("--sample", "seen")

    assert result.exit_code == 2
    assert (
        "Give the callback URL, as in --to http://127.0.0.1:8080/callbacks/TOKEN, or start `callbacks dev`"
        in " ".join(result.stderr.split())
    )
    assert not list(tmp_path.iterdir())
