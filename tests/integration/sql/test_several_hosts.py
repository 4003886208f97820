"""A DATABASE_URL with several hosts leads to the one that can be written to."""

from urllib.parse import quote

from sqlalchemy import text
from sqlalchemy.engine import make_url

from tests.postgres_server import PostgresServer
from tests.redis_server import free_port
from workers.handlers.sql import database_check
from workers.handlers.sql.database_url import DatabaseUrl, open_engine


def test_the_next_host_is_tried_where_the_first_does_not_answer(postgres: PostgresServer) -> None:
    url = make_url(postgres.new_database())
    login = f"{url.username}:{quote(str(url.password), safe='')}"
    address = DatabaseUrl.parse(f"postgresql://{login}@127.0.0.1:{free_port()},127.0.0.1:{url.port}/{url.database}")
    engine = open_engine(address)
    try:
        with engine.begin() as connection:
            assert connection.execute(text("SELECT inet_server_port()")).scalar() == url.port
    finally:
        engine.dispose()
    assert database_check.find_problem(address) == ""


def test_a_host_that_only_reads_is_not_used(postgres: PostgresServer) -> None:
    """As a standby does after a failover: it answers first, and could not be written to."""
    reads = make_url(postgres.new_database())
    postgres.execute(f"ALTER DATABASE {reads.database} SET default_transaction_read_only = on")
    login = f"{reads.username}:{quote(str(reads.password), safe='')}"
    address = DatabaseUrl.parse(f"postgresql://{login}@127.0.0.1:{reads.port},127.0.0.1:{reads.port}/{reads.database}")
    problem = database_check.find_problem(address)
    assert "read-write" in problem or "read-only" in problem
