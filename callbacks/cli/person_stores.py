"""What `callbacks forget` and `export` share: the numbers, and the stores that the settings name."""

from collections.abc import Iterable

import click
import redis

from shared.number_search import NotANumber, NumberSearch, comparable_number
from workers.personal_data.failures import Failures
from workers.personal_data.jobs import WaitingJobs
from workers.personal_data.stores import PersonStore


def parse_numbers(spellings: Iterable[str]) -> NumberSearch:
    """Return the search for these numbers. Raises click.UsageError, which names the position of a wrong one."""
    numbers: set[str] = set()
    for position, spelling in enumerate(spellings, start=1):
        try:
            numbers.add(comparable_number(spelling))
        except NotANumber as exc:
            # Not the text itself: it may be a number with a typing error.
            raise click.UsageError(f"Number {position}: {exc}") from exc
    return NumberSearch(numbers)


def moving_stores(client: redis.Redis, search: NumberSearch) -> tuple[PersonStore, ...]:
    """Return the stores in Redis between which events move, in that direction."""
    return (WaitingJobs(client, search), Failures(client, search))


def all_stores(client: redis.Redis, search: NumberSearch) -> tuple[PersonStore, ...]:
    """Return every store, those in Redis first."""
    return (*moving_stores(client, search),)
