"""Reads what `workers.activity` publishes, from the start of the workers on."""

from types import TracebackType
from typing import Any, Self, cast

import msgspec

from shared import connections
from workers import activity
from workers.activity import Activity


class ActivityFeed:
    """Listens to the Redis at `url` from now on."""

    def __init__(self, url: str) -> None:
        self._client = connections.connect(url)
        self._pubsub = cast(Any, self._client).pubsub(ignore_subscribe_messages=True)  # which has no types
        self._pubsub.subscribe(activity.CHANNEL)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pubsub.close()
        self._client.close()

    def read(self, *, wait_seconds: float) -> list[Activity]:
        """Return what happened since the last call; wait for it this long. Raise redis.RedisError."""
        message = self._pubsub.get_message(timeout=wait_seconds)
        try:
            return [] if message is None else activity.decode(message["data"])
        except msgspec.MsgspecError:  # somebody else's
            return []
