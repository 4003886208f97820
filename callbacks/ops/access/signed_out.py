"""Sessions that were signed out of: a copy of their cookie, wherever it was made, opens nothing any more.

They are noted in Redis for all processes, until they would have ended by themselves, and in this one's memory: while
Redis is away signing out still works here, and there is no event to be seen elsewhere.
"""

import redis
from starlette.concurrency import run_in_threadpool

from callbacks.ops.access.sessions import LONGEST_SECONDS, Session
from shared import keys


class SignedOut:
    """The sessions that ended early. `client` is shared with the endpoints."""

    def __init__(self, client: redis.Redis) -> None:
        self._client = client
        self._here: set[str] = set()

    async def add(self, session: Session) -> None:
        """End a session everywhere."""
        self._here.add(session.identity)
        try:
            await run_in_threadpool(self._client.set, keys.signed_out(session.identity), 1, ex=LONGEST_SECONDS)
        except redis.RedisError:
            return

    async def holds(self, session: Session) -> bool:
        """Tell whether a session has ended early."""
        if not session.name or session.identity in self._here:
            return bool(session.name)
        try:
            return bool(await run_in_threadpool(self._client.exists, keys.signed_out(session.identity)))
        except redis.RedisError:
            return False
