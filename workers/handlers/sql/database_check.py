"""Finds what is wrong with the database without changing anything, for `callbacks check`."""

import os
from pathlib import Path

from sqlalchemy import Connection, text
from sqlalchemy.exc import SQLAlchemyError

from workers.handlers.sql import schema, tables
from workers.handlers.sql.database_url import DatabaseUrl, open_engine
from workers.handlers.sql.errors import translate_error


def find_problem(address: DatabaseUrl) -> str:
    """Return what is wrong with the database at `address`; "" if nothing is."""
    if address.file is not None:
        if found := _find_file_problem(address.file):
            return found
        if not address.file.exists():
            return ""  # it is created at the first use
    engine = open_engine(address, read_only=True)
    try:
        with engine.connect() as connection:
            return _find_schema_problem(connection)
    except SQLAlchemyError as exc:
        return str(translate_error(exc, address.redact))
    finally:
        engine.dispose()


def _find_schema_problem(connection: Connection) -> str:
    if found := schema.find_encoding_problem(connection):
        return found
    state = schema.read_state(connection)
    if state == "newer":
        return schema.newer_schema_text(connection)
    if connection.dialect.name != "postgresql":
        return ""
    user = connection.scalar(text("SELECT current_user"))
    if state != "current":
        may = connection.scalar(text("SELECT has_schema_privilege(current_schema(), 'CREATE')"))
        return "" if may else f"the user {user!r} may not create tables there: GRANT CREATE ON SCHEMA"
    # DELETE is for the retention and for `callbacks forget`.
    for table in tables.metadata.sorted_tables:
        # One query each: with several privileges in one call, one of them would be enough.
        for privilege in ("SELECT", "INSERT", "UPDATE", "DELETE"):
            query = text("SELECT has_table_privilege(:table, :privilege)")
            if not connection.scalar(query, {"table": table.name, "privilege": privilege}):
                return f"the user {user!r} may not {privilege} in {table.name}: GRANT {privilege} ON {table.name}"
    return ""


def _find_file_problem(file: Path) -> str:
    if file.exists():
        return "" if os.access(file, os.R_OK | os.W_OK) else f"{file} cannot be written"
    nearest = next(path for path in file.absolute().parents if path.exists())
    if not nearest.is_dir():
        return f"{nearest} is not a folder"
    return "" if os.access(nearest, os.W_OK | os.X_OK) else f"{nearest} cannot be written"
