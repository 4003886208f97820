"""The handler `sql`: the status of each message, its whole history and the replies, in SQLite or PostgreSQL.

handler      what the worker calls: patience with the database, and what its errors mean for the events
writing      one batch of events into the tables, once
lattice      which of a message's statuses is its current one
texts        what a column of text can hold
tables       the tables as this release reads and writes them
schema       making and upgrading them, by the steps in `migrations`
connecting   DATABASE_URL, and connections
trouble      what may go wrong
history      reading: what `callbacks message`, `messages` and `stats` show
past         reading: the events themselves, for `callbacks backfill`
"""

from importlib.util import find_spec

for _name, _module in (("SQLAlchemy", "sqlalchemy"), ("Alembic", "alembic")):
    if find_spec(_module) is None:
        raise ModuleNotFoundError(f"{_name} is not installed: pip install 'callbacks[sql]'", name=_module)
