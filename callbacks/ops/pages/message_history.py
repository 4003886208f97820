"""The message history of the handler `sql`, if it is in use: found by an id or a number, for the page *Messages*.

It only reads. If the database or its libraries are missing, the result says so; the page still works.
"""

from typing import TYPE_CHECKING, Final

from msgspec import Struct

from callbacks.ops.status.history_tables import TablesUnavailable, open_tables
from shared.settings import Settings

if TYPE_CHECKING:
    from workers.handlers.sql.history_results import Message, Timeline

MAX_MESSAGES: Final = 50
# Statuses of one message, or replies to it: far more than a message has.
MAX_EVENTS: Final = 200


class MessageHistory(Struct, frozen=True, kw_only=True):
    """What was found: timelines of those that an id names, `total` of them in all; the latest messages to a number.

    `problem` says why there is no history; it is empty otherwise.
    """

    timelines: tuple["Timeline", ...] = ()
    total: int = 0
    messages: tuple["Message", ...] = ()
    problem: str = ""

    @property
    def is_empty(self) -> bool:
        """Whether nothing was found."""
        return not self.timelines and not self.messages


def find_messages(settings: Settings, wanted: str, *, number: str = "") -> MessageHistory:
    """Find messages by any of their ids and, if `number` is given, by their recipient."""
    try:
        with open_tables(settings) as connection:
            from workers.handlers.sql.history import History  # noqa: PLC0415 # an extra

            found = History(connection)
            timelines, total = found.find(wanted, limit=MAX_MESSAGES, max_events=MAX_EVENTS)
            rows = found.messages(recipient=number, limit=MAX_MESSAGES) if number else ()
            return MessageHistory(timelines=tuple(timelines), total=total, messages=tuple(rows))
    except TablesUnavailable as exc:
        return MessageHistory(problem=str(exc))
