"""Runs Alembic's steps in the transaction that `workers.handlers.sql.schema` opened."""

from alembic import context

from workers.handlers.sql.tables import VERSION_TABLE

context.configure(
    connection=context.config.attributes["connection"], version_table=VERSION_TABLE, transactional_ddl=True
)
with context.begin_transaction():
    context.run_migrations()
