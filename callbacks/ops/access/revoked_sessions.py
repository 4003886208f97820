"""Sessions that were signed out of: a copy of their cookie, wherever it was made, opens nothing any more.

They are noted in Redis for all processes, until they would have ended by themselves, and in this one's memory: while
Redis is away signing out still works here, and there is no event to be seen elsewhere.
"""

import redis
from starlette.concurrency import run_in_threadpool

from callbacks.ops.access.sessions import MAX_SECONDS, Session
from shared import keys


class RevokedSessions:
    """The sessions that ended early. `client` is shared with the endpoints."""

    def __init__(self, client: redis.Redis) -> None:
        self._client = client
        self._local: set[str] = set()

    async def revoke(self, session: Session) -> None:
        """End a session everywhere."""
        self._local.add(session.identity)
        try:
            await run_in_threadpool(self._client.set, keys.revoked_session(session.identity), 1, ex=MAX_SECONDS)
        except redis.RedisError:
            return

    async def is_revoked(self, session: Session) -> bool:
        """Tell whether a session has ended early."""
        if not session.name or session.identity in self._local:
            return bool(session.name)
        try:
            return bool(await run_in_threadpool(self._client.exists, keys.revoked_session(session.identity)))
        except redis.RedisError:
            return False
