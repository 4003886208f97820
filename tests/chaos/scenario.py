"""One Redis, a proxy before it, and the parts of the service on both: a place where one run after the other is made.

A run begins with what earlier stages have left in Redis (a copy: real processes made it once), and is over when nothing
moves any more. Whatever died is started again on the way, as a platform would.
"""

import shutil
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import Any, Final

import redis

from shared import audit, keys, queues
from tests.acceptance.processes import get
from tests.chaos import recorder
from tests.chaos.proxy import Passage, Plan, Proxy
from tests.environment import stripped_environment
from tests.forkserver import ForkServer
from tests.integration.runtime.pools import alive
from tests.redis_server import RedisServer, free_port

TOKEN: Final = "every-step-5c1e"
# As often as the gateway, but at once.
_TRIES: Final = 3
_REST_SECONDS: Final = 60.0
_PAUSE_SECONDS: Final = 0.02

_PARTS: Final = {"web": ("web",), "expand": ("worker", "expand"), "deliver": ("worker", "deliver")}


@dataclass(frozen=True)
class Callback:
    """One POST, and the ids of the events in it."""

    path: str
    body: bytes
    events: tuple[str, ...] = ()


@dataclass(frozen=True)
class State:
    """What Redis holds (key, lifetime in ms, DUMP), what the recorder wrote, and which events were acknowledged."""

    keys: tuple[tuple[bytes, int, bytes], ...] = ()
    recorded: str = ""
    acknowledged: frozenset[str] = frozenset()


class Scenario:
    """A Redis, a proxy before it, and the processes that are started on them; one run after the other."""

    def __init__(self, redis_server: RedisServer, proxy: Proxy, forkserver: ForkServer, folder: Path) -> None:
        # In bytes, as DUMP gives them.
        self.client: redis.Redis = redis_server.client(decode_responses=False)
        self.proxy = proxy
        self.recorder_file = folder / "recorder.txt"
        self.acknowledged: set[str] = set()
        self.passage = Passage(None)
        self._urls = {False: redis_server.url, True: f"redis://127.0.0.1:{proxy.port}/0"}
        self._forkserver = forkserver
        self._folder = folder
        self._port = free_port()
        self._parts: dict[str, tuple[int, bool]] = {}

    def begin(self, state: State, *, plan: Plan | None = None) -> None:
        """End what runs, and begin a run with `state`."""
        self.end()
        # What those who were killed have sent is not to be carried out later.
        self.client.client_kill_filter(_type="normal", skipme=True)
        self.client.client_kill_filter(_type="pubsub", skipme=True)
        self.client.flushall()
        with self.client.pipeline(transaction=False) as pipe:
            for key, lifetime_ms, value in state.keys:
                pipe.restore(key, lifetime_ms, value)
            pipe.execute()
        self.recorder_file.write_text(state.recorded)
        self.obey()
        shutil.rmtree(self._folder / "spool", ignore_errors=True)
        (self._folder / "log.txt").write_text("")
        self.acknowledged = set(state.acknowledged)
        self.passage = self.proxy.watch(plan)

    def end(self) -> None:
        """End what runs."""
        self._forkserver.kill_all()
        self._parts.clear()
        self.proxy.refusing = False

    def close(self) -> None:
        """End what runs, and let go of Redis."""
        self.end()
        self.client.close()

    @property
    def log(self) -> str:
        """What the processes of this run have logged."""
        return (self._folder / "log.txt").read_text(errors="replace")

    def state(self) -> State:
        """Return what Redis holds now."""
        of_processes = (b"rq:worker", b"rq:scheduler")  # which are not there any more
        found = tuple(
            (key, max(0, self.client.pttl(key)), self.client.dump(key) or b"")
            for key in sorted(self.client.scan_iter(count=1000))
            if not key.startswith(of_processes)
        )
        return State(found, self.recorder_file.read_text(), frozenset(self.acknowledged))

    def start(self, part: str, *, watched: bool = False) -> None:
        """Start a part of the service, with its connections through the proxy if it is to be watched."""
        self._parts[part] = (self.run(*_PARTS[part], watched=watched), watched)

    def run(self, *arguments: str, watched: bool) -> int:
        """Start `callbacks …`; give its pid."""
        return self._forkserver.start(
            *arguments,
            log=self._folder / "log.txt",
            cwd=self._folder,
            environment={
                **stripped_environment(),
                "REDIS_URL": self._urls[watched],
                "PORT": str(self._port),
                "CALLBACKS_TOKENS": f"gateway={TOKEN}",
                "CALLBACKS_ALLOWED_IPS": "127.0.0.1",
                "CALLBACKS_SPOOL_DIR": str(self._folder / "spool"),
                "CALLBACKS_HANDLERS": "tests.chaos.recorder",
                recorder.VARIABLE: str(self.recorder_file),
            },
        ).pid

    def revive(self) -> None:
        """Start again what has ended."""
        for part, (pid, watched) in list(self._parts.items()):
            if not alive(pid):
                # RQ's lock keeps the retries of a supervisor that was killed back for a minute. It is over now.
                for lock in self.client.scan_iter(b"rq:scheduler-lock:*", count=1000):
                    self.client.delete(lock)
                self.start(part, watched=watched)

    def post(self, callback: Callback) -> None:
        """Send a callback as the gateway does, until it hears 200 or gives up."""
        for _ in range(_TRIES):
            self.until(lambda: self._asked("livez") is not None, "the web process answers")
            request = urllib.request.Request(
                f"http://127.0.0.1:{self._port}/callbacks/{TOKEN}/{callback.path}",
                data=callback.body,
                headers={"content-type": "application/json"},
            )
            with (
                suppress(urllib.error.URLError, HTTPException, ConnectionError, TimeoutError),
                urllib.request.urlopen(request, timeout=30) as answer,
            ):
                if answer.status == 200:
                    self.acknowledged.update(callback.events)
                    return

    def insist(self, done: Callable[[], bool], *arguments: str) -> None:
        """Run a command, again if it had no effect, as an operator would who checks."""
        for _ in range(_TRIES):
            pid = self.run(*arguments, watched=True)
            self.until(lambda pid=pid: not alive(pid), "the command ends")  # type: ignore[misc]
            if done():
                return

    def obey(self, *orders: str) -> None:
        """Have the recorder follow these orders from now on, and no others."""
        for order in (recorder.RETRY, recorder.DEAD):
            file = self.recorder_file.with_name(order)
            file.touch() if order in orders else file.unlink(missing_ok=True)

    def all_expanded(self) -> bool:
        """Whether no callback waits to be expanded, and no worker is at one."""
        sums = audit.run(self.client)
        return not sums.waiting and not sums.moving and not self.client.exists(keys.rq_started(queues.EXPAND))

    def rest(self) -> None:
        """Wait until nothing moves any more."""
        self.until(self._is_quiet, "it comes to rest")

    def until(self, true: Callable[[], bool], what: str) -> None:
        """Wait, starting again whatever ends."""
        deadline = time.monotonic() + _REST_SECONDS
        while not true():
            if time.monotonic() > deadline:
                raise AssertionError(f"waited for so long in vain: {what}")
            time.sleep(_PAUSE_SECONDS)
            self.revive()

    def _asked(self, path: str) -> Any:
        try:
            return get(f"http://127.0.0.1:{self._port}/{path}")[1]
        except HTTPException:  # it was killed while it answered
            return None

    def _is_quiet(self) -> bool:
        if "web" in self._parts:
            ready = self._asked("readyz")
            if ready is None or ready["checks"]["spool"]["waiting_callbacks"]:
                return False
        if next(self.client.scan_iter(b"rq:job:*", count=1000), None) is not None:
            return False
        sums = audit.run(self.client)
        return sums.received > 0 and not sums.pending and not sums.moving
