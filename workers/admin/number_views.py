"""Records in the action log who sees whole phone numbers, on a page, by `/api` or by a command, before they are shown.

What one user sees within ten minutes is one action, which counts the messages or events. A program that asks for many
could otherwise push all other actions out of the log.
"""

import threading
import time
from typing import Final

import msgspec
import redis

from workers.admin.action_log import Action, ActionLog, ActionProgress, ActionSource

_WINDOW_SECONDS: Final = 600.0
# Names are those of signed-in users and of tokens. The oldest are forgotten, and then begin a new action.
_MAX_OPEN: Final = 256


class NumberViews:
    """The views of this process. Every method may raise redis.RedisError: then nothing may be shown."""

    def __init__(self, client: redis.Redis) -> None:
        self._action_log = ActionLog(client)
        self._lock = threading.Lock()
        self._open: dict[Action, tuple[float, ActionProgress]] = {}

    def record(self, *, who: str, by: ActionSource, where: str, count: int) -> None:
        """Record that `who` is about to see `count` messages or events with whole numbers; `where` is the page.

        A command records 0: it does not know yet how many it will print.
        """
        action = Action(who=who, by=by, what="view", where=where)
        with self._lock:
            now = time.monotonic()
            started, progress = self._open.get(action, (float("-inf"), ActionProgress()))
            if started + _WINDOW_SECONDS < now:
                started, progress = now, ActionProgress(action_id=self._action_log.start(action))
            progress = msgspec.structs.replace(progress, done=progress.done + count)
            self._action_log.end(progress.action_id, action, progress, state="done")
            self._open.pop(action, None)
            self._open[action] = (started, progress)
            if len(self._open) > _MAX_OPEN:
                del self._open[next(iter(self._open))]
