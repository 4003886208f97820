"""The options of a campaign and of its sending. Values are checked here, for the library and the command."""

from pathlib import Path

from msgspec import Struct

from callbacks.simulator.errors import InvalidOption

# Bodies are encoded before the clock starts: for a million destinations they take about 1 GB.
MAX_DESTINATIONS = 1_000_000
MAX_CONNECTIONS = 10_000
MAX_SECONDS = 86_400
RATES = (0.001, 1_000_000)


class CampaignOptions(Struct, frozen=True, kw_only=True):
    """What is sent. Shares lie between 0 and 1. Raise InvalidOption."""

    destinations: int = 1000
    """Phone numbers, each of which gets one message."""
    bundle: tuple[int, int] = (1, 20)
    """Minimum and maximum of reports in one callback; the last bundle of a job holds the rest."""
    duplicates: float = 0.1
    """Share of callbacks that are sent a second time, byte for byte."""
    out_of_order: float = 0.1
    """Share of callbacks that are sent too early or too late, their records shuffled."""
    seen: float = 0.6
    """Share of destinations that send SEEN."""
    undelivered: float = 0.03
    """Share of destinations whose message ends as UNDELIV, EXPIRED or REJECTD; SEEN ones come first."""
    replies: int = 100
    """Messages sent back by recipients."""
    reply_retries: float = 0.05
    """Share of replies sent again with the same reply_message_id and a new req_uuid."""
    odd: float = 0.0
    """Share of callbacks that are written oddly, in each of the ways in turn; see `simulator.oddities`."""
    seed: int = 0
    """The same seed and start give the same campaign, byte for byte."""

    def __post_init__(self) -> None:
        _require_range("destinations", self.destinations, 1, MAX_DESTINATIONS)
        _require_range("replies", self.replies, 0, MAX_DESTINATIONS)
        for share in ("duplicates", "out_of_order", "seen", "undelivered", "reply_retries", "odd"):
            _require_range(share, getattr(self, share), 0, 1)
        minimum, maximum = self.bundle
        if not 1 <= minimum <= maximum:
            raise InvalidOption("bundle", f"{minimum}-{maximum}", "must be MIN-MAX with 1 <= MIN <= MAX")


class DeliveryOptions(Struct, frozen=True, kw_only=True):
    """How it is sent. Raise InvalidOption."""

    rate: float = 0.0
    """New callbacks per second, without retries; 0: as fast as the receiver answers."""
    connections: int = 8
    """Requests in flight at most."""
    retry_seconds: float = 300.0
    """Delay after a failed attempt (specification, "Callback failure": five minutes)."""
    timeout_seconds: float = 30.0
    """Time-out of one attempt, connecting included."""
    ca: Path | None = None
    """A file of PEM certificates that are trusted in addition to the system's."""

    def __post_init__(self) -> None:
        if self.rate != 0 and not RATES[0] <= self.rate <= RATES[1]:
            raise InvalidOption("rate", self.rate, f"must be 0, or lie between {RATES[0]} and {RATES[1]:,}")
        _require_range("connections", self.connections, 1, MAX_CONNECTIONS)
        _require_range("retry_seconds", self.retry_seconds, 0, MAX_SECONDS)
        _require_range("timeout_seconds", self.timeout_seconds, 0.001, MAX_SECONDS)


def _require_range(option: str, value: float, minimum: float, maximum: float) -> None:
    # Written so that NaN, which compares false with everything, is rejected too.
    if not minimum <= value <= maximum:
        raise InvalidOption(option, value, f"must lie between {minimum} and {maximum:,}")
