"""What happened to a message, for handlers: its reports on every channel, from the tables of the handler `sql`.

A status is about one channel. After UNDELIV on Viber, the gateway may still send the message by SMS. So wait some
minutes, then ask `arrival_of` before you act on a failure (`refund` in examples/everyday.py does).

`sql` has to be among the handlers, and DATABASE_URL is its. Each call opens a connection, reads and closes it, so it
may come from any thread. In an async handler: `await asyncio.to_thread(history.arrival_of, event)`.
"""

import os
from typing import TYPE_CHECKING, Final

from callbacks import Event, ReportEvent, phone_numbers

if TYPE_CHECKING:
    from sqlalchemy import ColumnElement

__all__ = ["HistoryUnavailable", "arrival_of", "reports", "reports_of"]

_ARRIVED: Final = frozenset(("DELIVRD", "SEEN"))


class HistoryUnavailable(Exception):
    """The history cannot be read now, or does not hold the event yet. If a handler raises it, it is called again."""


def reports(
    *,
    message_id: str | None = None,
    client_message_id: str | None = None,
    api_job_id: str | None = None,
    recipient: str | None = None,
) -> list[ReportEvent]:
    """Return the reports of the messages that have all of the given names, in the order of the gateway's times.

    Numbers are compared by their digits. Of more than 1000 reports the earliest 1000 are returned. Raise TypeError if
    no name is given, and HistoryUnavailable.
    """
    # SQLAlchemy is an extra and takes a moment to load: here and below it is loaded by the first call.
    from workers.handlers.sql import message_reports  # noqa: PLC0415

    return _read(
        message_reports.named(
            message_id=message_id, client_message_id=client_message_id, api_job_id=api_job_id, recipient=recipient
        )
    )


def reports_of(event: Event) -> list[ReportEvent]:
    """Return the reports of an event's message on every channel, in the order of the gateway's times.

    Of a reply, they are those of the message that it answers. Raise HistoryUnavailable.

    The same message has the same `message_id`; or the same `api_job_id` and the same recipient's digits, and no other
    `client_message_id`. Where the job is not known, `client_message_id` and the recipient's digits decide.
    """
    from workers.handlers.sql import message_reports  # noqa: PLC0415

    number = event.sender if event.kind == "reply" else event.recipient
    found = _read(message_reports.same_message(event))
    # The gateway may use one id for several recipients.
    return found if number is None else [one for one in found if _is_to(number, one.recipient)]


def arrival_of(event: ReportEvent) -> ReportEvent | None:
    """Return the first report that the event's message arrived on any channel (DELIVRD or SEEN); None if it did not.

    It counts whether it occurred before or after `event`. Raise HistoryUnavailable, also if the handler `sql` has not
    stored `event` itself yet: then `sql` is behind, and the arrival may not be stored yet either.
    """
    found = reports_of(event)
    if event.id not in {report.id for report in found}:
        raise HistoryUnavailable(f"the handler `sql` has not stored the event {event.id} yet")
    return next((report for report in found if report.status in _ARRIVED), None)


def _is_to(number: str, recipient: str | None) -> bool:
    return recipient is None or phone_numbers.comparable(recipient) == phone_numbers.comparable(number)


def _read(wanted: "ColumnElement[bool]") -> list[ReportEvent]:
    from workers.handlers.sql.database_url import DatabaseUrl, read_url  # noqa: PLC0415
    from workers.handlers.sql.errors import DatabaseUnavailable  # noqa: PLC0415
    from workers.handlers.sql.message_reports import read_reports  # noqa: PLC0415

    try:
        return read_reports(DatabaseUrl.parse(read_url(os.environ)), wanted)
    except (DatabaseUnavailable, OSError) as exc:
        # Neither text contains the password.
        raise HistoryUnavailable(str(exc)) from None
