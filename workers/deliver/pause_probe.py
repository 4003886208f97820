"""A run's part in its handler's pause: whether it is the probe, what it has to tell others, whether it has to end."""

from workers.runtime.outcome import Done, Outcome, Paused, Rejected
from workers.runtime.settlement import NO_CHANGE, PauseChange, SettleResult


class ProbeState:
    """What one run knows of its handler's pause; `is_probe`: the pause's time is over, and it tries one event first."""

    def __init__(self, *, is_probe: bool) -> None:
        self.is_probe = is_probe
        # Once true no call starts in this run: the handler is paused.
        self.is_paused = False
        self._change = NO_CHANGE

    @property
    def has_change(self) -> bool:
        """Whether there is something that the others have to hear at once."""
        return self._change != NO_CHANGE

    def observe(self, outcome: Outcome) -> None:
        """Note how a call ended, before another one starts."""
        if isinstance(outcome, Paused):
            # Those that were under way with it have the same to say: the first is heard.
            if not self.is_paused:
                self._change = PauseChange("paused", outcome.after_seconds, outcome.reason, outcome.by)
            self.is_paused, self.is_probe = True, False
        elif self.is_probe:
            # To reject an event the target was asked too, or was not needed: either way it is no reason to wait.
            is_back = isinstance(outcome, Done | Rejected)
            self._change = PauseChange("resumed" if is_back else "failed")
            self.is_paused, self.is_probe = not is_back, False

    def end(self) -> None:
        """Note that no further call comes: a probe that came to none leaves it to another one."""
        if self.is_probe:
            self._change = PauseChange("untried")
            self.is_probe = False

    def pop_change(self) -> PauseChange:
        """Give what the next settlement is to say, once."""
        change, self._change = self._change, NO_CHANGE
        return change

    def observe_settlement(self, settled: SettleResult) -> None:
        """Note what a settlement has found: somebody else may have paused the handler meanwhile."""
        self.is_paused = self.is_paused or settled.is_paused
