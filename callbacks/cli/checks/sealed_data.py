"""What `callbacks check` says of the keys that seal what waits: which there are, and which stored data need.

They are named by their ids, as in errors and in stored data.
"""

from collections.abc import Iterator
from typing import Final

import redis

from callbacks.cli.checks.result import CheckResult
from shared import connections
from shared.settings import Settings
from workers.admin import needed_keys

# Of each queue and of each list of failures: about a second for all. The oldest are read.
_MAX_OF_EACH: Final = 5000


def check_seal_keys(loaded: Settings) -> Iterator[CheckResult]:
    """Yield which key seals and which only open, if there are any; and what is sealed with other keys."""
    known = [key.id.hex() for key in loaded.seal_keys]
    if known:
        newest, *older = known
        opens = f"; it opens what is sealed with {' and '.join(older)} too" if older else ""
        yield CheckResult("ok", f"what waits is sealed with key {newest}{opens}")
    if not loaded.redis_url:
        return
    client = connections.connect(loaded.redis_url, timeout_seconds=connections.WEB_TIMEOUT_SECONDS)
    try:
        needed = needed_keys.count(client, max_of_each=_MAX_OF_EACH)
    except redis.RedisError:
        return  # `check_redis` says so, or this user may not read jobs
    finally:
        client.close()
    # The newest is in use anyway.
    for key_id in known[1:]:
        what = (
            f" is needed for {needed_keys.describe(needed[key_id])}"
            if key_id in needed
            else ": nothing in Redis needs it"
        )
        yield CheckResult("ok", f"the older key {key_id}{what}")
    why = "which is not in CALLBACKS_SEAL_KEYS_FILE" if known else "and CALLBACKS_SEAL_KEYS_FILE is not set"
    for key_id in sorted(needed.keys() - set(known)):
        yield CheckResult(
            "wrong",
            f"sealed with key {key_id}, {why}: {needed_keys.describe(needed[key_id])}",
            "Give all processes a file that has this key too. If it is lost, "
            f"`callbacks lost-key {key_id}` discards what nobody can read any more.",
        )
