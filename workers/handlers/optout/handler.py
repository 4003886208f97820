"""The handler `optout`: keeps which numbers want no further messages.

    DATABASE_URL             the database, as for the handler `sql`, which need not be on
    CALLBACKS_OPTOUT_WORDS   further keywords that opt out, beyond STOP and so on; -WORD removes one
    CALLBACKS_OPTIN_WORDS    further keywords that opt in again, beyond START and so on
    CALLBACKS_FORGET_SECRET  the key under which `callbacks forget` keeps opt-outs, if it has one

A repeated reply has one effect, and a late one undoes nothing that was said after it. While the database is unavailable
the replies wait and are retried.
"""

import functools
import os
from collections.abc import Sequence

from callbacks import Reject, ReplyEvent, handler
from callbacks.opt_outs import Keywords
from workers.handlers.optout import forgotten
from workers.handlers.optout.wish_table import write_events
from workers.handlers.sql.database_url import DatabaseUrl, read_url
from workers.handlers.sql.event_store import ATTEMPTS, TIMEOUT_SECONDS, EventStore, closing


# Read at the first event, not on import: processes that do not run this handler import the module too.
@functools.cache
def _store() -> EventStore:
    Keywords.parse(os.environ)  # says what is wrong with them
    write = functools.partial(write_events, secret=forgotten.read_secret(os.environ))
    return EventStore(DatabaseUrl.parse(read_url(os.environ)), write)


@handler(
    ReplyEvent,
    name="optout",
    opt_outs=True,
    batch=True,
    attempts=ATTEMPTS,
    timeout_seconds=TIMEOUT_SECONDS,
    lifespan=closing(_store),
    settings=_store,
)
def optout(events: Sequence[ReplyEvent]) -> None:
    """Write the wishes of the batch, all or none. A reply without a sender is rejected: whose wish it is is unknown."""
    if not all(event.sender for event in events):
        problem = "the reply has no sender, so it is unknown who opts out or in"
        raise Reject(problem) if len(events) == 1 else ValueError(problem)  # the latter has the batch split
    _store().write(events)
