"""CALLBACKS_NOTIFY: which targets it names, what is wrong with it, and that no secret of it is ever shown."""

import importlib.util
import re
from collections.abc import Sequence

import pytest
from click.testing import CliRunner

from callbacks.cli.main import main
from callbacks.distribution import install_command
from callbacks.ops.notices import delivery
from callbacks.ops.notices.apprise_sender import AppriseSender, _without_parts
from callbacks.ops.notices.delivery import NoticeDelivery
from callbacks.ops.notices.notice import Notice
from callbacks.ops.notices.targets import NoticeTarget, read_targets
from shared import settings
from shared.errors import ConfigurationError

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
HIDDEN = "hunter2-secret"


def read(notify: str, *, secret: str = "") -> list[NoticeTarget]:
    return read_targets(settings.load({"CALLBACKS_NOTIFY": notify, "CALLBACKS_NOTIFY_SECRET": secret}))


@pytest.mark.parametrize(
    ("value", "schemes"),
    [
        ("", []),
        ("json://127.0.0.1:1/a", ["json"]),
        ("json://127.0.0.1:1/a json://127.0.0.1:1/b", ["json", "json"]),
        ("json://127.0.0.1:1/a,jsons://127.0.0.1/b", ["json", "jsons"]),
        (" json://127.0.0.1:1/a ,\n mailtos://u:p@example.com?to=a@example.com,b@example.com ", ["json", "mailtos"]),
        ("json://127.0.0.1:1/a json://127.0.0.1:1/a", ["json"]),
        ("webhook+https://hooks.example/x, webhook+http://127.0.0.1:1/", ["webhook+https", "webhook+http"]),
    ],
)
def test_targets_are_separated_by_spaces_or_commas(value: str, schemes: list[str]) -> None:
    assert [target.scheme for target in read(value, secret=SECRET)] == schemes


@pytest.mark.parametrize(
    ("value", "secret", "problem"),
    [
        (f"json://127.0.0.1:1/a {HIDDEN}", "", "CALLBACKS_NOTIFY: target 2 must be a URL such as mailto://"),
        (f"nosuch://{HIDDEN}", "", "CALLBACKS_NOTIFY: target 1 is not a URL that Apprise understands"),
        (f"json://127.0.0.1:1/a slack://{HIDDEN}", "", "CALLBACKS_NOTIFY: target 2 is not a URL that Apprise"),
        (f"webhook+ftp://u:{HIDDEN}@h/", SECRET, "CALLBACKS_NOTIFY: target 1 must be webhook+https://HOST/PATH"),
        (f"webhook+https://u:{HIDDEN}@h:x/", SECRET, "CALLBACKS_NOTIFY: target 1 must be webhook+https://HOST/PATH"),
        ("webhook+https://h/", "", "CALLBACKS_NOTIFY_SECRET holds no secret; make one with: echo"),
        ("webhook+https://h/", HIDDEN, "CALLBACKS_NOTIFY_SECRET secret 1 must be whsec_"),
        ("webhook+https://h/", "none", "CALLBACKS_NOTIFY_SECRET must hold a secret"),
    ],
)
def test_what_is_wrong_is_said_without_any_part_of_a_url_or_secret(value: str, secret: str, problem: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        read(value, secret=secret)

    assert caught.value.problems[0].startswith(problem)
    assert HIDDEN not in str(caught.value)


def test_no_url_is_in_a_repr() -> None:
    loaded = settings.load({"CALLBACKS_NOTIFY": f"json://u:{HIDDEN}@127.0.0.1/", "CALLBACKS_NOTIFY_SECRET": HIDDEN})

    assert HIDDEN not in repr(loaded)
    assert HIDDEN not in read_targets(loaded)[0].name


def test_a_missing_extra_is_said_with_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *more: None if name == "apprise" else real(name))

    with pytest.raises(ConfigurationError, match=re.escape(install_command("notify"))):
        read("json://127.0.0.1:1/a")
    assert read("") == []


@pytest.mark.parametrize("command", ["notify", "notify --test", "check"])
def test_the_commands_show_no_url_either(command: str) -> None:
    given = {"CALLBACKS_NOTIFY": f"json://u:{HIDDEN}@127.0.0.1:1/{HIDDEN}"}

    ended = CliRunner().invoke(main, command.split(), env=given)

    assert "target 1 (json://…)" in ended.output
    assert HIDDEN not in ended.output
    assert ended.exit_code == (command != "notify")


def test_the_command_says_what_is_missing() -> None:
    ended = CliRunner().invoke(main, ["notify"])

    assert ended.exit_code == 2
    assert "CALLBACKS_NOTIFY is not set" in ended.output


def test_what_apprise_says_of_a_failure_is_shown_without_the_parts_of_the_url() -> None:
    sender = AppriseSender(f"json://me:{HIDDEN}@127.0.0.1:1/{HIDDEN}/x?+x-key={HIDDEN}")
    test = Notice(condition="test", state="test", text="…", at_seconds=0, started_at_seconds=0)

    assert sender.send([test]) == "A Connection error occurred sending JSON notification to ***."
    assert _without_parts(f"for {HIDDEN} or HUNTER2-SECRET at a.example", f"x://{HIDDEN}@a.example") == (
        "for *** or *** at ***"
    )


class Sent:
    """A sender that notes what it gets, and fails while `problem` is set."""

    max_notices = 20

    def __init__(self) -> None:
        self.messages: list[list[str]] = []
        self.problem = ""

    def send(self, notices: Sequence[Notice]) -> str:
        self.messages.append([notice.text for notice in notices])
        return self.problem


class Outbox:
    """What is unsent to one target, and a clock."""

    def __init__(self) -> None:
        self.sender, self.now_seconds, self.unsent = Sent(), 1_000_000.0, list[Notice]()
        self.delivery = NoticeDelivery(
            NoticeTarget("json://127.0.0.1/", 1, self.sender),
            unsent=lambda _: list(self.unsent),
            on_done=lambda _, notices: self.unsent.__setitem__(
                slice(None), [n for n in self.unsent if n not in notices]
            ),
            now_seconds=lambda: self.now_seconds,
        )

    def add(self, *texts: str) -> None:
        at_seconds = self.now_seconds
        self.unsent += [
            Notice(
                condition="dead_letters",
                state="started",
                text=text,
                at_seconds=at_seconds,
                started_at_seconds=at_seconds,
            )
            for text in texts
        ]

    def attempts(self, *, until: float) -> list[float]:
        """Step each second; return after how many seconds something was sent."""
        found, began = [], self.now_seconds
        while self.now_seconds - began <= until:
            before = len(self.sender.messages)
            self.delivery.step()
            if len(self.sender.messages) > before:
                found.append(self.now_seconds - began)
            self.now_seconds += 1
        return found


def test_a_target_that_fails_is_tried_again_after_growing_pauses() -> None:
    outbox = Outbox()
    outbox.add("one")
    outbox.sender.problem = "it answered 500"

    assert outbox.attempts(until=2400) == [0, 5, 15, 35, 75, 155, 315, 635, 1235, 1835]
    outbox.sender.problem = ""
    outbox.attempts(until=delivery.MAX_PAUSE_SECONDS)
    assert outbox.unsent == []


def test_few_notices_are_a_message_each_and_many_are_one() -> None:
    outbox = Outbox()
    outbox.add("1", "2")
    assert outbox.attempts(until=3) == [0, 1]
    outbox.add(*map(str, range(30)))
    outbox.attempts(until=20)

    assert [len(message) for message in outbox.sender.messages] == [1, 1, 20, 10]


def test_what_did_not_arrive_for_a_day_is_dropped_and_logged(caplog: pytest.LogCaptureFixture) -> None:
    outbox = Outbox()
    outbox.add("old")
    outbox.now_seconds += delivery.MAX_AGE_SECONDS + 1
    outbox.add("new")

    outbox.attempts(until=1)

    assert outbox.sender.messages == [["new"]]
    assert 'action=notice_dropped target="target 1 (json://…)" number=1' in caplog.text


def test_failures_are_logged_seldom_and_without_the_url(caplog: pytest.LogCaptureFixture) -> None:
    outbox = Outbox()
    outbox.add("one")
    outbox.sender.problem = "it answered 500"

    outbox.attempts(until=60)

    lines = [record.getMessage() for record in caplog.records]
    assert lines == ['action=notice_failed target="target 1 (json://…)" count=1 failures=1 error="it answered 500"']
