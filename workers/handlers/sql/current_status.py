"""Which of a message's statuses is its current one, whatever order they came in and however often.

What `messages` says of a message is made of its statuses by taking, column by column, the greatest or the least.
Neither the order of that nor repetition changes the result, so any number of workers may do it at once, each with
the statuses that it has, and the database can do the last step in one upsert (`writing`).
"""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any, Final, TypeAlias

# One row, of any table.
TableRow: TypeAlias = dict[str, Any]

ACCEPTED: Final = "ACCEPTD"
# A message with one of these has arrived.
DELIVERED: Final = frozenset(("DELIVRD", "SEEN"))

# The order among one message's statuses (the gateway's integrations): that it will not arrive is overruled by a later
# arrival, as a message plan can fall back to the other channel.
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
# A status that we do not know is taken for progress: it must never hide an end that we do know, and among those that
# are not final the latest is what the user wants to see.
_UNKNOWN_RANK: Final = 1

# Columns of `messages` that go with the current status,
CURRENT_COLUMNS: Final = ("status_rank", "status", "is_final", "status_at", "channel", "error_code", "sender", "source")
# those that hold the greatest of all that was said (in practice it is the same each time, or missing),
MAX_COLUMNS: Final = (
    "api_job_id",
    "client_job_id",
    "client_message_id",
    "recipient",
    "last_at",
    "last_received_at",
)
# and those that hold the least.
MIN_COLUMNS: Final = ("first_at", "first_received_at", "accepted_at", "delivered_at")

_YEAR_1: Final = datetime(1, 1, 1, tzinfo=UTC)
_MILLISECOND: Final = timedelta(milliseconds=1)


def rank(status: str) -> int:
    """Give a status's place in the order, from 1."""
    return _RANKS.get(status, _UNKNOWN_RANK)


def status_rank(status: str, occurred_at: datetime | None, event_id: str) -> str:
    """Give a text that is the greater the more a status counts: by order, then by the gateway's time, then by id.

    A status without a time counts less than any with one. The id only makes sure that two workers agree.
    """
    ms = 0 if occurred_at is None else (occurred_at - _YEAR_1) // _MILLISECOND + 1
    return f"{rank(status)}:{ms:013x}:{event_id}"


def message_row(status: TableRow) -> TableRow:
    """Give what `messages` says of a message of which this row of `statuses` is all that is known."""
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
        "first_at": at,
        "last_at": at,
        "first_received_at": status["received_at"],
        "last_received_at": status["received_at"],
        "accepted_at": at if status["status"] == ACCEPTED else None,
        "delivered_at": at if status["status"] in DELIVERED else None,
    }


def merge(one: TableRow, other: TableRow) -> TableRow:
    """Give what two rows of the same message say together: commutative, associative, idempotent."""
    joined = dict(other if other["status_rank"] > one["status_rank"] else one)
    for column in MAX_COLUMNS:
        joined[column] = _pick_value(max, one[column], other[column])
    for column in MIN_COLUMNS:
        joined[column] = _pick_value(min, one[column], other[column])
    return joined


def message_rows(statuses: Iterable[TableRow]) -> list[TableRow]:
    """Give one row of `messages` for each message that `statuses` speak of, sorted by its id."""
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
