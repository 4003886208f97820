"""What Alembic runs around the steps: they go into the transaction that `workers.handlers.sql.schema` has opened."""

from alembic import context

from workers.handlers.sql.tables import VERSION_TABLE

context.configure(
    connection=context.config.attributes["connection"], version_table=VERSION_TABLE, transactional_ddl=True
)
with context.begin_transaction():
    context.run_migrations()
