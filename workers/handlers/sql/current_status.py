"""Which of a message's statuses is the current one, in whatever order and how often they came.

The row of a message is made from its statuses by taking the maximum or the minimum of each column. Order and repetition
do not change the result. So several workers may do it at the same time, each with the statuses that it has, and the
database does the last step in one upsert (`writer`).
"""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any, Final, TypeAlias

from workers.handlers.sql import texts

# One row, of any table.
TableRow: TypeAlias = dict[str, Any]

ACCEPTED: Final = "ACCEPTD"
# A message with one of these was delivered.
DELIVERED: Final = frozenset(("DELIVRD", "SEEN"))

# The ranks of a message's statuses (the gateway's integrations): a delivery overrules a failure, because a message plan
# can fall back to the other channel.
_RANKS: Final = {
    "ACCEPTD": 1,
    "UNKNOWN": 1,
    "EXPIRED": 2,
    "DELETED": 2,
    "UNDELIV": 2,
    "REJECTD": 2,
    "DELIVRD": 3,
    "SEEN": 4,
}
# An unknown status counts as progress: it must never hide a known final status. Among statuses that are not final the
# latest is shown.
_UNKNOWN_RANK: Final = 1

# Columns of `messages` that go with the current status,
CURRENT_COLUMNS: Final = ("status_rank", "status", "is_final", "status_at", "channel", "error_code", "sender", "source")
# columns that hold the maximum of all statuses (in practice all are equal or missing),
MAX_COLUMNS: Final = (
    "api_job_id",
    "client_job_id",
    "client_message_id",
    "recipient",
    "recipient_key",
    "last_at",
    "last_received_at",
)
# and columns that hold the minimum.
MIN_COLUMNS: Final = ("first_at", "first_received_at", "accepted_at", "delivered_at")

_YEAR_1: Final = datetime(1, 1, 1, tzinfo=UTC)
_MILLISECOND: Final = timedelta(milliseconds=1)


def rank(status: str) -> int:
    """Return the rank of a status, from 1."""
    return _RANKS.get(status, _UNKNOWN_RANK)


def status_rank(status: str, occurred_at: datetime | None, event_id: str) -> str:
    """Return a text that sorts by rank, then by the gateway's time, then by event id; the greatest is current.

    A status without a time sorts before any with one. The id makes sure that all workers agree.
    """
    ms = 0 if occurred_at is None else (occurred_at - _YEAR_1) // _MILLISECOND + 1
    return f"{rank(status)}:{ms:013x}:{event_id}"


def message_row(status: TableRow) -> TableRow:
    """Return the row of `messages` for a message with this one row of `statuses`."""
    at = status["occurred_at"]
    return {
        "message_id": status["message_id"],
        "status_rank": status_rank(status["status"], at, status["event_id"]),
        "status": status["status"],
        "is_final": status["is_final"],
        "status_at": at,
        "channel": status["channel"],
        "error_code": status["error_code"],
        "sender": status["sender"],
        "source": status["source"],
        "api_job_id": status["api_job_id"],
        "client_job_id": status["client_job_id"],
        "client_message_id": status["client_message_id"],
        "recipient": status["recipient"],
        "recipient_key": texts.number_key(status["recipient"]),
        "first_at": at,
        "last_at": at,
        "first_received_at": status["received_at"],
        "last_received_at": status["received_at"],
        "accepted_at": at if status["status"] == ACCEPTED else None,
        "delivered_at": at if status["status"] in DELIVERED else None,
    }


def merge(one: TableRow, other: TableRow) -> TableRow:
    """Return the row for both rows of the same message; commutative, associative, idempotent."""
    joined = dict(other if other["status_rank"] > one["status_rank"] else one)
    for column in MAX_COLUMNS:
        joined[column] = _pick_value(max, one[column], other[column])
    for column in MIN_COLUMNS:
        joined[column] = _pick_value(min, one[column], other[column])
    return joined


def message_rows(statuses: Iterable[TableRow]) -> list[TableRow]:
    """Return one row of `messages` for each message in `statuses`, sorted by message id."""
    found: dict[str, TableRow] = {}
    for status in statuses:
        row = message_row(status)
        known = found.get(row["message_id"])
        found[row["message_id"]] = row if known is None else merge(known, row)
    return [found[message_id] for message_id in sorted(found)]


def _pick_value(choose: Any, one: Any, other: Any) -> Any:
    if one is None:
        return other
    return one if other is None else choose(one, other)
