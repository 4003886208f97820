"""A notice: that a condition of the service began, is over, or comes and goes. It holds no secret and no event."""

import hashlib
from datetime import UTC, datetime
from typing import Final, Literal, TypeAlias

from msgspec import Struct

from callbacks.ops.status.conditions import CONDITIONS, ConditionName
from callbacks.ops.status.quantities import format_duration
from shared.events import rfc3339
from shared.setting_values import RUNBOOK

NoticeState: TypeAlias = Literal["started", "resolved", "flapping", "test"]

_PREFIXES: Final[dict[NoticeState, str]] = {
    "started": "",
    "resolved": "Resolved: ",
    "flapping": "Comes and goes: ",
    "test": "",
}


class Notice(Struct, frozen=True, kw_only=True):
    """What happened to `condition`, at the Unix time `at_seconds`; `subject` is the handler or queue, or "".

    `started_at_seconds` is when the condition began, `ended_at_seconds` when it ended, None while it lasts.
    `runbook_url` is where the runbook is.
    """

    condition: ConditionName | Literal["test"]
    subject: str = ""
    state: NoticeState
    text: str
    at_seconds: float
    started_at_seconds: float
    ended_at_seconds: float | None = None
    runbook_url: str = RUNBOOK

    @property
    def id(self) -> str:
        """Its id, the same at each attempt to send it."""
        name = f"{self.condition} {self.subject} {self.state} {self.at_seconds:.3f}"
        return f"notice_{hashlib.blake2b(name.encode(), digest_size=12).hexdigest()}"

    @property
    def title(self) -> str:
        """Return a line such as "Resolved: Handler paused: crm"."""
        if self.condition == "test":
            return "Test"
        subject = f": {self.subject}" if self.subject else ""
        return f"{_PREFIXES[self.state]}{CONDITIONS[self.condition].title}{subject}"

    @property
    def runbook(self) -> str:
        """Where the runbook says what to do, "" for a test."""
        return "" if self.condition == "test" else f"{self.runbook_url}#{CONDITIONS[self.condition].section}"

    def to_text(self) -> str:
        """Return the notice for people, in a few lines without its title."""
        lines = [self.text, f"Since {_readable(self.started_at_seconds)}."]
        if self.ended_at_seconds is not None:
            lasted = format_duration(max(0.0, self.ended_at_seconds - self.started_at_seconds))
            lines[1] = f"From {_readable(self.started_at_seconds)} to {_readable(self.ended_at_seconds)} ({lasted})."
        if self.runbook and self.state != "resolved":
            lines.append(f"What to do: {self.runbook}")
        return "\n".join(lines)

    def to_json_object(self) -> dict[str, str | None]:
        """Return the notice for programs, as the signed POST has it; times in RFC 3339."""
        ended = self.ended_at_seconds
        return {
            "type": self.condition,  # what Standard Webhooks calls it
            "state": self.state,
            "subject": self.subject or None,
            "started_at": _rfc3339(self.started_at_seconds),
            "ended_at": None if ended is None else _rfc3339(ended),
            "title": self.title,
            "text": self.text,
            "runbook": self.runbook or None,
        }


def _rfc3339(unix_seconds: float) -> str:
    return rfc3339(datetime.fromtimestamp(unix_seconds, UTC))


def _readable(unix_seconds: float) -> str:
    return f"{datetime.fromtimestamp(unix_seconds, UTC):%Y-%m-%d %H:%M:%S} UTC"
