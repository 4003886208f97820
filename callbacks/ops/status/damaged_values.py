"""Values in Redis that no release writes, found while a status is read: each is named, and hides nothing else."""

from collections.abc import Callable, Mapping
from typing import Any, Final, TypeVar

import redis
from rq.utils import as_text

from shared.rate_limited_log import RateLimitedLog
from shared.structured_log import get_logger

T = TypeVar("T")

_LOG_SECONDS: Final = 300.0

limited_log = RateLimitedLog(get_logger("callbacks.ops"), interval_seconds=_LOG_SECONDS)


class DamagedValues:
    """The keys of the damaged values of one reading, in `keys`."""

    def __init__(self) -> None:
        self.keys: list[str] = []

    def reply(self, key: str, reply: Any, default: T) -> T:
        """Return the reply of Redis to a command on `key`, the default if the key is of another type.

        Raise redis.RedisError.
        """
        if isinstance(reply, redis.RedisError):
            if not is_wrong_type(reply):
                raise reply
            self._add(key)
            return default
        found: T = reply
        return found

    def parse(self, key: str, parse: Callable[[], T], default: T) -> T:
        """Return what `parse` makes of the value of `key`, the default if it raises anything."""
        try:
            return parse()
        except Exception as exc:  # noqa: BLE001 # a damaged value may raise anything
            limited_log.exception("status_unreadable", exc, part=key)
            self._add(key)
            return default

    def counts(self, key: str, fields: Mapping[bytes, bytes]) -> dict[str, int]:
        """Return the fields of a hash of counters, without those that are not a whole number."""
        found: dict[str, int] = {}
        for name, number in fields.items():
            try:
                found[as_text(name)] = int(number)
            except ValueError:
                self._add(key)
        return found

    def _add(self, key: str) -> None:
        if key not in self.keys:
            self.keys.append(key)


def is_wrong_type(error: Exception) -> bool:
    """Return whether Redis said that a key is not of the type that a command is for."""
    return isinstance(error, redis.ResponseError) and str(error).startswith("WRONGTYPE")
