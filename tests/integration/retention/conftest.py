"""The databases of the handler `sql`, each kind in turn."""

from tests.integration.sql.conftest import _session_postgres, database, new_database, postgres

__all__ = ["_session_postgres", "database", "new_database", "postgres"]
