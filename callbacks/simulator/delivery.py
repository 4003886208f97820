"""The attempts of one callback, and its state: acknowledged, to be sent again, or discarded.

Knows nothing of connections and clocks: `http_client` makes the attempts, `schedule` waits.
"""

from datetime import datetime

from msgspec import Struct

from callbacks.simulator.callback import EncodedBody, PlannedCallback

ACKNOWLEDGED = 200
"""The one status that counts (specification, "Callback response by client")."""


class Attempt(Struct, frozen=True, omit_defaults=True):
    """One POST and how it ended."""

    ended_at: datetime
    latency_ms: float
    """From the start of the request to the head of the response, or to the failure."""
    status: int | None = None
    """The HTTP status, if there was a response."""
    reason: str | None = None
    """Why the attempt failed: `404: unknown token or path`, `timeout` …; None: it was acknowledged."""


class CallbackDelivery(Struct):
    """The delivery of one callback."""

    callback: PlannedCallback
    attempts: list[Attempt] = []

    @property
    def body(self) -> EncodedBody:
        """The body of the next attempt."""
        return self.callback.bodies[len(self.attempts)]

    @property
    def last_body(self) -> EncodedBody:
        """The body of the latest attempt."""
        return self.callback.bodies[len(self.attempts) - 1]

    @property
    def is_acknowledged(self) -> bool:
        """Whether the receiver answered exactly 200."""
        return bool(self.attempts) and self.attempts[-1].reason is None

    @property
    def is_finished(self) -> bool:
        """Whether it was acknowledged, or discarded after the last attempt."""
        return self.is_acknowledged or len(self.attempts) == len(self.callback.bodies)
