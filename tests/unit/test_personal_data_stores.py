"""The table of stores is whole: each key in Redis has its place in it, and each store that is searched has a row."""

import re

import redis

from callbacks.cli import person_stores
from shared import keys, settings
from shared.number_search import NumberSearch
from workers.personal_data import stores
from workers.personal_data.redis_files import RedisFiles

_PATTERN = re.compile(r"^    (cb:\S+(?: \S+>|(?: [0-9a-z]+)+ digits>)?)", re.MULTILINE)


def test_each_key_in_redis_is_in_the_table_or_named_as_one_without_numbers() -> None:
    documented = {
        re.sub(r" +(hash|set|list|zset|string)$", "", found) for found in _PATTERN.findall(keys.__doc__ or "")
    }
    known = {key for row in stores.ROWS for key in row.keys if key.startswith("cb:")} | {*stores.KEYS_WITHOUT_NUMBERS}

    assert documented == known


def test_each_store_that_is_searched_has_a_row() -> None:
    # Nothing is sent over it.
    client = redis.Redis(port=1)
    loaded = settings.load({"CALLBACKS_LOG_FILE": "events.log", "REDIS_URL": "redis://127.0.0.1:1"}, process="command")
    searched = person_stores.stores_to_read(loaded, client, NumberSearch([]))

    # What waits is read again at another moment.
    names = dict.fromkeys([*(store.name for store in searched), "handler:NAME", RedisFiles.name])
    assert [*names] == [row.name for row in stores.ROWS]
