"""deploy/redis/users.conf, read: which rights each user has, and a server on which one of them can be taken away."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import redis

from tests.deploy.deployment import DEPLOY
from tests.redis_server import RedisServer

TEXT = (DEPLOY / "redis" / "users.conf").read_text()
RULES = {line.split()[1]: line.split()[2:] for line in TEXT.splitlines() if line.startswith("user ")}
# For the feed of live events, which has a test of its own below.
FEED_RIGHTS = {"&cb:live:*", "+subscribe", "+pubsub|numsub"}
# Without CONFIG GET Redis is believed; WAIT is for a level with a replica.
CONDITIONAL_RIGHTS = {"+wait", "+config|get"}
# Without these callbacks are kept as ever, and /metrics shows less; that they suffice, the campaign shows.
METRICS_RIGHTS = {
    "~cb:metrics",
    "~cb:metrics:*",
    "~cb:recent-rate",
    "~cb:recent-outcomes",
    "+evalsha",
    "+script|load",
    "+time",
    "+zrem",
    "+zremrangebyscore",
}
# For signing out, which has tests of its own: tests/deploy/test_redis_rights_of_sign_out.py.
SIGN_OUT_RIGHTS = {"~cb:revoked-session:*"}
# For notices, which have tests of their own: tests/deploy/test_redis_rights_of_notices.py.
NOTICE_RIGHTS = {"~cb:notices", "~cb:notices:sender", "+unwatch"}
# Without these the page shows all that it shows: tests/deploy/test_redis_rights_of_bulk_actions.py.
BULK_ACTION_RIGHTS = {
    word for word in RULES["ops"] if word.startswith(("~", "%W~"))
} - SIGN_OUT_RIGHTS - NOTICE_RIGHTS | {
    *("+watch", "+eval", "+evalsha", "+script|load", "+script|exists", "+hset", "+hincrby", "+rpush", "+sadd", "+set"),
    *("+expire", "+zadd", "+zrem", "+del", "+unlink", "+decrby", "+incrby"),
}


def rights(user: str) -> list[str]:
    return [word for word in RULES[user] if word[0] in "+%~&" and word not in CONDITIONAL_RIGHTS]


def url(server: RedisServer, user: str) -> str:
    return f"redis://{user}:CHANGE-ME-{user}@127.0.0.1:{server.port}/0"


def denied(client: redis.Redis) -> list[tuple[str, str]]:
    # What redis-py sends by itself, for CLIENT LIST, and the probe whether this Redis (7.2) can wait for an fsync: both
    # may be denied.
    harmless = {"client|setinfo", "waitaof"}
    return [(str(e["username"]), str(e["object"])) for e in client.acl_log() if e["object"] not in harmless]


def setuser(client: redis.Redis, user: str, rules: list[str]) -> None:
    command: Any = client.execute_command  # which carries no types
    command("ACL", "SETUSER", user, "reset", *rules)


@contextmanager
def without(client: redis.Redis, user: str, right: str) -> Iterator[None]:
    """Take one right away, and give it back."""
    kept = [word for word in RULES[user] if word != right]
    setuser(client, user, kept)
    client.acl_log_reset()
    yield
    setuser(client, user, RULES[user])
