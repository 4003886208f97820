"""The stores that `callbacks forget` and `export` search, as the settings name them."""

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import redis

from callbacks.distribution import MissingExtra
from shared import connections
from shared.errors import ConfigurationError
from shared.number_search import NumberSearch
from shared.settings import Settings
from workers import registry
from workers.personal_data.action_work import ActionWork
from workers.personal_data.failures import Failures
from workers.personal_data.handler_data import HandlerData
from workers.personal_data.jobs import WaitingJobs
from workers.personal_data.jsonl_files import JsonlFiles
from workers.personal_data.log_files import LogFile
from workers.personal_data.redis_files import RedisFiles
from workers.personal_data.report import StoreResult, timed
from workers.personal_data.spool_files import SpoolFiles
from workers.personal_data.stores import PersonStore
from workers.personal_data.stream_entries import StreamEntries


def moving_stores(client: redis.Redis, search: NumberSearch) -> tuple[PersonStore, ...]:
    """Return the stores in Redis between which events move, in that direction, and which workers and pages fill."""
    return (WaitingJobs(client, search), Failures(client, search), ActionWork(client, search))


def handler_stores(loaded: Settings, search: NumberSearch, *, resumes: bool = False) -> tuple[PersonStore, ...]:
    """Return the stores of the built-in handlers, whether CALLBACKS_HANDLERS names them now or not.

    Raise ConfigurationError if their settings are wrong.
    """
    found: list[PersonStore] = [
        JsonlFiles(Path(loaded.jsonl_dir), search),
        StreamEntries(loaded.stream_url or loaded.redis_url, loaded.stream_key, search, resumes=resumes),
    ]
    if loaded.log_file:
        found.append(LogFile(Path(loaded.log_file), search, masked=loaded.log_numbers == "masked"))
    # Without it nothing in this environment can have written to a database.
    with suppress(MissingExtra):
        found.insert(0, _sql_tables(loaded, search, resumes=resumes))
    return tuple(found)


def spools(loaded: Settings, search: NumberSearch) -> tuple[PersonStore, ...]:
    """Return the spool of this host, if it has one."""
    return (SpoolFiles(Path(loaded.spool_dir), search),) if loaded.spool_dir else ()


def stores_to_read(loaded: Settings, client: redis.Redis, search: NumberSearch) -> tuple[PersonStore, ...]:
    """Return every store, in the direction in which events move: what moves meanwhile is read before or after it moved.

    What waits is read twice, as it comes back from the failures if somebody replays them. Raise ConfigurationError.
    """
    moving = moving_stores(client, search)
    return (*spools(loaded, search), *moving, moving[0], *handler_stores(loaded, search))


def own_stores(loaded: Settings, search: NumberSearch) -> Iterator[PersonStore | StoreResult]:
    """Yield what handlers of CALLBACKS_HANDLERS store and can erase; a result for each that cannot be loaded."""
    found = registry.load_each(loaded.handlers, with_settings=False)
    for entry, handlers in found.handlers.items():
        for handler in handlers:
            if handler.forget is not None:
                yield HandlerData(entry, handler, handler.forget, search)
    for entry, problem in found.problems.items():
        yield StoreResult(store=f"handler:{entry}", why=str(problem), failed=True)


def rewrite_redis_files(loaded: Settings) -> Iterator[StoreResult]:
    """Have each Redis with a store write its files anew, and yield the results."""
    for url in dict.fromkeys((loaded.redis_url, loaded.stream_url or loaded.redis_url)):
        client = connections.connect(url)
        try:
            yield timed(RedisFiles(client).rewrite)
        finally:
            client.close()


def _sql_tables(loaded: Settings, search: NumberSearch, *, resumes: bool) -> PersonStore:
    from callbacks.cli import message_history  # noqa: PLC0415 # an extra
    from workers.personal_data.sql_tables import SqlTables  # noqa: PLC0415

    if loaded.forget_sql == "pseudonymise" and not loaded.forget_secret:
        raise ConfigurationError(
            ["CALLBACKS_FORGET_SECRET is not set: CALLBACKS_FORGET_SQL=pseudonymise needs it as a key"]
        )
    address = message_history.database_address()
    return SqlTables(address, search, how=loaded.forget_sql, secret=loaded.forget_secret, resumes=resumes)
