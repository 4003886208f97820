"""Numbers that were forgotten lately: what still arrives for one of them is counted and dropped.

The gateway repeats what it could not deliver, and a spool may hold what came before. So `callbacks forget` leaves keyed
digests of the numbers in Redis (`keys.FORGOTTEN`), until no repeat is recognised any more; their key goes with them.
Without any, a run of expand asks nothing more of Redis than whether the key is there.
"""

import functools
import hashlib
import secrets
import time
from collections.abc import Iterable, Iterator
from typing import Any, Final

import redis
from msgspec import Struct
from rq.utils import as_text

from shared import keys
from shared.number_search import byte_candidates
from workers.runtime import scripts
from workers.runtime.settlement import FanOutEvents, NewFailure

_KEY_FIELD: Final = "key"
_SECRET_BYTES: Final = 32
_DIGEST_BYTES: Final = 16


class ForgottenRecords(Struct, frozen=True):
    """Records that mention a forgotten number: nothing of them is kept but their number."""

    kind: keys.CountedKind
    records: int


class ForgottenNumbers:
    """The numbers that are forgotten now."""

    def __init__(self, secret: bytes, digests: Iterable[str]) -> None:
        self._digests = frozenset(digests)
        self._digest = functools.lru_cache(1 << 14)(functools.partial(_digest, secret))

    def replace(self, read: FanOutEvents | NewFailure) -> Iterator[FanOutEvents | NewFailure | ForgottenRecords]:
        """Yield what was read of a callback, in order, or what stands for what mentions one of the numbers."""
        if isinstance(read, NewFailure):
            texts = (value if isinstance(value, bytes) else str(value).encode() for value in read.fields.values())
            yield ForgottenRecords(read.kind, read.records) if any(map(self._mentioned_in, texts)) else read
            return
        mentioned = [*map(self._mentioned_in, read.events)]
        if not any(mentioned):
            yield read
            return
        for event, is_mentioned in zip(read.parts(1), mentioned, strict=True):
            yield ForgottenRecords(read.kind, 1) if is_mentioned else event

    def _mentioned_in(self, data: bytes) -> bool:
        return any(self._digest(number) in self._digests for number in byte_candidates(data))


def read(connection: redis.Redis) -> ForgottenNumbers | None:
    """Return the numbers that are forgotten now; None if there are none. Raise redis.RedisError."""
    fields: dict[bytes, bytes] = connection.hgetall(keys.FORGOTTEN)  # type: ignore[assignment] # not a coroutine here
    now = time.time()
    digests = [as_text(name) for name, end in fields.items() if name != _KEY_FIELD.encode() and float(end) > now]
    return ForgottenNumbers(fields[_KEY_FIELD.encode()], digests) if digests else None


def remember(connection: redis.Redis, numbers: Iterable[str], *, seconds: int) -> None:
    """Forget these numbers, each as `number_search.comparable_number` returns it, for this long."""
    client: Any = connection
    client.hsetnx(keys.FORGOTTEN, _KEY_FIELD, secrets.token_bytes(_SECRET_BYTES))
    secret = client.hget(keys.FORGOTTEN, _KEY_FIELD)
    ends = {_digest(secret, number): int(time.time()) + seconds for number in numbers}
    script = client.register_script(scripts.load("expand/forgotten"))
    script(keys=[keys.FORGOTTEN], args=[seconds, secret, *(word for pair in ends.items() for word in pair)])


def _digest(secret: bytes, number: str) -> str:
    return hashlib.blake2b(number.encode(), key=secret, digest_size=_DIGEST_BYTES).hexdigest()
