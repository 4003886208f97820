"""Several web processes that share a port: uvicorn's supervisor, for a machine that may be very slow.

It differs in three things. A process that does not answer its ping gets three minutes, enough to start on a small share
of a processor, and the others are not held up: uvicorn kills it after 5 s and starts it again, without end. A process
whose event loop hangs does not answer: uvicorn's thread would answer for it without end. And when all stop, the port is
closed before the processes drain, so that no client waits there.
"""

import socket
import time
from collections.abc import Sequence
from typing import Final

from uvicorn import Config, Server
from uvicorn.config import STARTUP_FAILURE
from uvicorn.supervisors import Multiprocess
from uvicorn.supervisors.multiprocess import Process

from shared.liveness import Liveness
from shared.structured_log import get_logger

log = get_logger("callbacks.web")

# A process needs 0.8 s of a processor until it answers. Eight of them take 64 s for that on a tenth of a core.
SILENT_SECONDS: Final = 180.0


class WebProcesses(Multiprocess):
    """Runs `config.workers` processes, and starts another in place of one that has ended or is silent."""

    def __init__(self, config: Config, *, sockets: Sequence[socket.socket], liveness: Liveness | None = None) -> None:
        super().__init__(config, list(sockets))
        self._answered: dict[Process, float] = {}
        self._liveness = liveness or Liveness()

    def init_processes(self) -> None:
        """Start the processes."""
        self.processes += [self._start() for _ in range(self.processes_num)]

    def terminate_all(self) -> None:
        """Stop listening in this process too, then ask every process to end."""
        self._liveness.stopping()
        for listening in self.sockets:
            listening.close()
        super().terminate_all()

    def keep_subprocess_alive(self) -> None:
        """Start another process in place of each that is not alive. If one could not start at all, end."""
        self._liveness.beat()
        for number, process in enumerate(self.processes):
            if self._is_alive(process):
                continue
            process.kill()
            process.join()
            if process.exitcode == STARTUP_FAILURE:
                self.should_exit.set()
                return
            log.error("web_process_restarted", pid=process.pid, exit_code=process.exitcode)
            self._answered.pop(process, None)
            self.processes[number] = self._start()

    def _start(self) -> Process:
        process = WebProcess(self.config, self.sockets)
        process.start()
        return process

    def _is_alive(self, process: Process) -> bool:
        """Return whether `process` runs, and has answered lately; the answer is that to an earlier ping."""
        now = time.monotonic()
        since = self._answered.setdefault(process, now)
        if not process.process.is_alive():
            return False
        if process.ping(timeout=0):
            self._answered[process] = now
            # It serves, so callbacks are accepted.
            self._liveness.ready()
            return True
        return now - since < SILENT_SECONDS


class WebProcess(Process):
    """One of the processes. Its thread answers a ping only if its event loop came round since the last answer."""

    _ticks_answered = 0

    @property
    def server(self) -> Server:
        """The server, which this process makes for itself."""
        if self._server is None:
            self._server = _TickingServer(self.config)
        return self._server

    def pong(self) -> None:
        """Receive a ping, and answer it if the event loop runs."""
        self.child_conn.recv()
        server = self.server
        if isinstance(server, _TickingServer) and server.ticks != self._ticks_answered:
            self._ticks_answered = server.ticks
            self.child_conn.send(server.started)


class _TickingServer(Server):
    """uvicorn's server, which counts how often its event loop came round: ten times a second."""

    ticks = 0

    async def on_tick(self, counter: int) -> bool:
        self.ticks += 1
        return await super().on_tick(counter)
