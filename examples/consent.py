"""Keeps in a table of your own customers which of them may be written to, by what they reply.

    CALLBACKS_HANDLERS=optout,examples.consent

    CONSENT_FILE    the SQLite database with the table `customers`; default: var/customers.db

The handler `optout` keeps the wishes of all numbers. This one brings each to the customer whose number it is. Replies
may arrive in any order and more than once, so a row has the time of the wish that it shows, and an older one changes
nothing.
"""

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Final

from callbacks import ReplyEvent, handler, opt_outs, phone_numbers

_TABLE: Final = """
CREATE TABLE IF NOT EXISTS customers (
    number_digits TEXT PRIMARY KEY, may_be_written_to INTEGER NOT NULL DEFAULT 1, changed_at REAL NOT NULL DEFAULT 0
)
"""
_CHANGE: Final = """
UPDATE customers SET may_be_written_to = ?, changed_at = ? WHERE number_digits = ? AND changed_at < ?
"""


@handler(ReplyEvent, opt_outs=True)
def consent(event: ReplyEvent) -> None:
    """Note whether the customer who replied may be written to."""
    at = (event.occurred_at or event.received_at).timestamp()
    may_be_written_to = opt_outs.wish(event.text) == "in"
    with _customers() as database:
        database.execute(_CHANGE, (may_be_written_to, at, phone_numbers.comparable(event.sender or ""), at))


@contextmanager
def _customers() -> Iterator[sqlite3.Connection]:
    """Yield the database in a transaction, which other processes of this handler wait for."""
    file = Path(os.environ.get("CONSENT_FILE", "var/customers.db"))
    file.parent.mkdir(parents=True, exist_ok=True)
    with closing(sqlite3.connect(file, timeout=20, isolation_level="IMMEDIATE")) as database:
        database.execute(_TABLE)
        with database:
            yield database
