"""What a round knows of its handler's pause: whether it is the probe, what others have to know, whether it must end.

The pause itself is in Redis (see `workers/runtime/pause.py`); settlements change it (`settle.lua`).
"""

from collections.abc import Iterable
from typing import Final, Literal

import msgspec
from msgspec import Struct

from shared.events import Event
from workers.deliver.error_text import masked_line
from workers.runtime.outcome import Done, Outcome, Paused, Rejected


class PauseChange(Struct, frozen=True):
    """What a settlement changes of its handler's pause (see `settle.lua`); the kind "" is nothing.

    "paused": the handler asked for `after_seconds`, or, by "memory", Redis has no room for its failures. "resumed" and
    "failed" are the outcome of the probe; "untried": the probe's event was not called.
    """

    kind: Literal["", "paused", "resumed", "failed", "untried"] = ""
    after_seconds: float = 0.0
    reason: str = ""
    by: Literal["handler", "memory"] = "handler"

    def masked(self, quotable: Iterable[Event]) -> "PauseChange":
        """Return it with its reason masked, which may quote these events: who reads it later does not know them."""
        return msgspec.structs.replace(self, reason=masked_line(self.reason, quotable))


NO_CHANGE: Final = PauseChange()


class ProbeState:
    """A round's pause state. `is_probe`: the time of the handler's pause is over: this round tries one event first."""

    def __init__(self, *, is_probe: bool) -> None:
        self.is_probe = is_probe
        # Once true, no call starts in this round: the handler is paused.
        self.is_paused = False
        self._change = NO_CHANGE

    @property
    def has_change(self) -> bool:
        """Whether there is a change that other processes have to know at once."""
        return self._change is not NO_CHANGE

    def observe(self, outcome: Outcome) -> None:
        """Take the outcome of a call into account, before another call starts."""
        if isinstance(outcome, Paused):
            # Calls that were in flight with this one ask for the same pause: the first counts.
            if not self.is_paused:
                self._change = PauseChange("paused", outcome.after_seconds, outcome.reason, outcome.by)
            self.is_paused, self.is_probe = True, False
        elif self.is_probe:
            # An event can be rejected only by a target that answers, or without the target: no reason to wait either.
            is_back = isinstance(outcome, Done | Rejected)
            self._change = PauseChange("resumed" if is_back else "failed")
            self.is_paused, self.is_probe = not is_back, False

    def end(self) -> None:
        """End the round: a probe that made no call leaves the probe to another run."""
        if self.is_probe:
            self._change = PauseChange("untried")
            self.is_probe = False

    def pop_change(self) -> PauseChange:
        """Return the change that the next settlement has to write, once."""
        change, self._change = self._change, NO_CHANGE
        return change

    def observe_settlement(self, *, is_paused: bool) -> None:
        """Take over what a settlement has found: another process may have paused the handler meanwhile."""
        self.is_paused = self.is_paused or is_paused
