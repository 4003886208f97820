"""The handler `sql`: keeps each message's current status, its history and the replies in SQLite or PostgreSQL.

handler         what the worker loads
event_store     writes events: retries while the database is unavailable, and what its errors mean for events
writer          writes a batch of events to the tables, each once
current_status  which of a message's statuses is the current one
texts           makes texts that every database can store
tables          the tables as this release reads and writes them
schema          creates and upgrades the tables with the steps in `migrations`
database_url    parses DATABASE_URL and opens connections
database_check  finds what is wrong with the database, for `callbacks check`
errors          the errors of the database
history         reads messages and totals, for `callbacks message`, `messages` and `stats`
history_results what these readers return
conditions      which messages are meant: overdue, of a job
jobs            reads what became of the messages of each job, for `callbacks jobs`
overdue         messages without a final status although their first report came long ago
retention       removes old rows
stored_events   reads the events themselves, for `callbacks backfill`
"""

from importlib.util import find_spec

from callbacks.distribution import MissingExtra

for _name, _module in (("SQLAlchemy", "sqlalchemy"), ("Alembic", "alembic")):
    if find_spec(_module) is None:
        raise MissingExtra(_name, module=_module, extra="sql")
