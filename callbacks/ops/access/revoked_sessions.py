"""Sessions that were signed out: a copy of their cookie is no longer valid anywhere.

They are stored in Redis for all processes until they would have expired, and in the memory of this one. While Redis is
unavailable sign-out still works here, and other processes have no event to show.
"""

import redis
from starlette.concurrency import run_in_threadpool

from callbacks.ops.access.sessions import MAX_SECONDS, Session
from shared import keys


class RevokedSessions:
    """The sessions that were revoked. `client` is shared with the endpoints."""

    def __init__(self, client: redis.Redis) -> None:
        self._client = client
        self._local: set[str] = set()

    async def revoke(self, session: Session) -> None:
        """Revoke a session for all processes."""
        self._local.add(session.identity)
        try:
            await run_in_threadpool(self._client.set, keys.revoked_session(session.identity), 1, ex=MAX_SECONDS)
        except redis.RedisError:
            return

    async def is_revoked(self, session: Session) -> bool:
        """Return whether a session was revoked."""
        if not session.name or session.identity in self._local:
            return bool(session.name)
        try:
            return bool(await run_in_threadpool(self._client.exists, keys.revoked_session(session.identity)))
        except redis.RedisError:
            return False
