"""Several web processes that share a port: uvicorn's supervisor, for a machine that may be very slow.

It differs in two things. A process that does not answer its ping gets three minutes, enough to start on a small share
of a processor, and the others are not held up: uvicorn kills it after 5 s and starts it again, without end. And when
all stop, the port is closed before the processes drain, so that no client waits there.
"""

import logging
import socket
import time
from collections.abc import Sequence
from typing import Final

from uvicorn import Config
from uvicorn.config import STARTUP_FAILURE
from uvicorn.supervisors import Multiprocess
from uvicorn.supervisors.multiprocess import Process

log = logging.getLogger("callbacks.web")

# A process needs 0.8 s of a processor until it answers. Eight of them take 64 s for that on a tenth of a core.
SILENT_SECONDS: Final = 180.0


class WebProcesses(Multiprocess):
    """Runs `config.workers` processes, and starts another in place of one that has ended or is silent."""

    def __init__(self, config: Config, *, sockets: Sequence[socket.socket]) -> None:
        super().__init__(config, list(sockets))
        self._answered: dict[Process, float] = {}

    def terminate_all(self) -> None:
        """Stop listening in this process too, then ask every process to end."""
        for listening in self.sockets:
            listening.close()
        super().terminate_all()

    def keep_subprocess_alive(self) -> None:
        """Start another process in place of each that is not alive. If one could not start at all, end."""
        for number, process in enumerate(self.processes):
            if self._is_alive(process):
                continue
            process.kill()
            process.join()
            if process.exitcode == STARTUP_FAILURE:
                self.should_exit.set()
                return
            log.error("action=web_process_restarted pid=%s exit_code=%s", process.pid, process.exitcode)
            self._answered.pop(process, None)
            self.processes[number] = Process(self.config, self.sockets)
            self.processes[number].start()

    def _is_alive(self, process: Process) -> bool:
        """Return whether `process` runs, and has answered lately; the answer is that to an earlier ping."""
        now = time.monotonic()
        since = self._answered.setdefault(process, now)
        if not process.process.is_alive():
            return False
        if process.ping(timeout=0):
            self._answered[process] = now
            return True
        return now - since < SILENT_SECONDS
