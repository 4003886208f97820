"""A real `callbacks web` process, and what it left in Redis."""

import signal
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final, TypeAlias

import httpx

from shared import batches, keys, queues
from shared.batches import Accepted
from tests import forkserver
from tests.environment import stripped_environment
from tests.forkserver import ForkedProcess
from tests.redis_server import RedisServer

TOKEN: Final = "tok-9f8e7d6c5b4a"
MAX_BODY_BYTES: Final = 64 << 10

_REPOSITORY: Final = Path(__file__).parents[1]
_PAYLOADS: Final = Path(__file__).parent / "payloads"
_START_SECONDS: Final = 60.0
_STOP_SECONDS: Final = 60.0

StartWeb: TypeAlias = Callable[..., "WebProcess"]


def callbacks_web(
    redis: RedisServer | str,
    log: Path,
    *,
    arguments: tuple[str, ...] = ("--port", "0"),
    prelude: str = "",
    command: tuple[str, ...] | None = None,
    **environment: str,
) -> "WebProcess":
    program = f"{prelude}\nfrom callbacks.cli.web import web\nweb(prog_name='callbacks web')"
    return WebProcess(
        command or arguments,
        {
            **stripped_environment(),
            "PYTHONUNBUFFERED": "1",
            "REDIS_URL": redis if isinstance(redis, str) else redis.url,
            "CALLBACKS_TOKENS": f"gateway={TOKEN}",
            "CALLBACKS_ALLOWED_IPS": "127.0.0.1",
            "CALLBACKS_MAX_BODY_BYTES": str(MAX_BODY_BYTES),
            "CALLBACKS_SPOOL_DIR": "",
            **environment,
        },
        log,
        program=None if command else program,
    )


class WebProcess:
    """A process that serves callbacks, its output in a file: forked to run `program`, Python text, or a command."""

    def __init__(
        self, command: tuple[str, ...], environment: Mapping[str, str], log: Path, *, program: str | None
    ) -> None:
        self._log = log
        self.process: subprocess.Popen[bytes] | ForkedProcess
        log.write_bytes(b"")
        if program is not None:
            self.process = forkserver.shared().start(
                *command, log=log, cwd=_REPOSITORY, environment=environment, program=program
            )
            return
        with log.open("wb") as output:
            # A session of its own: the tests' Ctrl-C is not its.
            self.process = subprocess.Popen(
                command,
                cwd=_REPOSITORY,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def output(self) -> str:
        """All that it has printed and logged."""
        return self._log.read_text(errors="replace")

    @property
    def url(self) -> str:
        """The address that it said it listens on."""
        until(lambda: "listening on " in self.output or self.process.poll() is not None)
        assert "listening on " in self.output, self.output
        return self.output.partition("listening on ")[2].split()[0]

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    def client(self) -> httpx.Client:
        """Return a client of it; the environment's proxies are none of its business."""
        return httpx.Client(base_url=self.url, trust_env=False, timeout=30)

    def post(self, body: bytes, path: str = "status", **headers: str) -> httpx.Response:
        """Post one callback with the right token."""
        with self.client() as client:
            return client.post(
                f"/callbacks/{TOKEN}/{path}".rstrip("/"),
                content=body,
                headers={"content-type": "application/json; charset=utf-8", **headers},
            )

    def ready(self) -> bool:
        """Whether it says that callbacks are kept now."""
        with self.client() as client:
            return client.get("/readyz").status_code == 200

    def stop(self, how: signal.Signals = signal.SIGTERM) -> int:
        """Ask it to end, wait until it has, and give its exit code."""
        self.process.send_signal(how)
        return self.process.wait(_STOP_SECONDS)

    def end(self) -> None:
        """End it, however it is."""
        if self.process.poll() is not None:
            return
        try:
            self.stop()
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def until(true: Callable[[], object], *, seconds: float = _START_SECONDS) -> None:
    """Wait until `true()`, for up to 30 seconds."""
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "it did not come true"
        time.sleep(0.02)


def payload(name: str) -> bytes:
    """Return a body as the gateway sends it."""
    return (_PAYLOADS / f"{name}.json").read_bytes()


def report(number: int) -> bytes:
    """Return a small status callback, different for each number."""
    return b'{"data":[{"message_id":"%d","status":"DELIVRD","type":"SMS","to":"35699000001"}]}' % number


def jobs(server: RedisServer) -> list[list[Accepted]]:
    """Return the callbacks of every job that waits to be expanded, oldest first."""
    with server.client(decode_responses=False) as client:
        ids = client.lrange(keys.rq_queue(queues.EXPAND), 0, -1)
        found = []
        for job_id in ids:
            data = client.hget(keys.job(job_id.decode()), "data")
            assert data is not None
            version, callbacks = queues.parse_arguments(data)
            assert version == queues.PAYLOAD_VERSION
            found.append([batches.decode_callback(callback) for callback in callbacks])
        return found


def kept(server: RedisServer) -> list[Accepted]:
    """Return every callback that waits to be expanded, oldest first."""
    return [callback for job in jobs(server) for callback in job]


def quarantine(server: RedisServer) -> list[dict[str, str]]:
    """Return the entries of the quarantine, oldest first."""
    with server.client() as client:
        return [client.hgetall(keys.quarantined(entry)) for entry in client.zrange(keys.QUARANTINE, 0, -1)]


def counts(server: RedisServer) -> dict[str, int]:
    """Return the counters of the audit."""
    with server.client() as client:
        return {name: int(value) for name, value in client.hgetall(keys.COUNTS).items()}
