"""Shows the platform that a process works: systemd by notifications, a probe by the age of a file.

The loop that does the process's work calls `beat`, so both signs end when that loop hangs, or the process is stopped or
starved. No thread sends them, because a thread would go on.

systemd (`Type=notify`) gets READY=1, WATCHDOG=1 and STOPPING=1 as sd_notify(3) describes: datagrams to the socket that
NOTIFY_SOCKET names. A probe compares the modification time of CALLBACKS_HEARTBEAT_FILE with the clock, which needs
neither a port nor a second Python with the service in it.
"""

import os
import socket
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final, Self

from shared.rate_limited_log import RateLimitedLog
from shared.structured_log import get_logger

log = get_logger("callbacks.liveness")

MAX_BEAT_SECONDS: Final = 1.0
_LOG_INTERVAL_SECONDS: Final = 60.0


class Liveness:
    """The signs of life of this process; without arguments it shows none.

    `notify_socket` is a path, or the name of an abstract socket after an `@`.
    """

    def __init__(
        self,
        *,
        heartbeat_file: str = "",
        notify_socket: str = "",
        watchdog_seconds: float | None = None,
        now_seconds: Callable[[], float] = time.monotonic,
    ) -> None:
        self._heartbeat_file = Path(heartbeat_file) if heartbeat_file else None
        self._address = f"\0{notify_socket[1:]}" if notify_socket.startswith("@") else notify_socket
        # systemd advises to send one at half of its time at the latest.
        self._every_seconds = min(MAX_BEAT_SECONDS, (watchdog_seconds or MAX_BEAT_SECONDS) / 2)
        self._now_seconds = now_seconds
        self._next_seconds = 0.0
        self._is_ready = False
        self._log = RateLimitedLog(log, interval_seconds=_LOG_INTERVAL_SECONDS)
        # A probe may come before the loop begins.
        self._renew_heartbeat()

    @classmethod
    def from_environment(cls, heartbeat_file: str, environ: Mapping[str, str] | None = None) -> Self:
        """Return that of this process, as systemd wants it by `environ` (None: this process's environment)."""
        environ = os.environ if environ is None else environ
        # A process that inherited these variables from the one that systemd started has another pid.
        is_ours = environ.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        microseconds = environ.get("WATCHDOG_USEC", "")
        return cls(
            heartbeat_file=heartbeat_file,
            notify_socket=environ.get("NOTIFY_SOCKET", ""),
            watchdog_seconds=int(microseconds) / 1e6 if is_ours and microseconds.isdecimal() else None,
        )

    def ready(self) -> None:
        """Report, the first time, that the process has started and does its work."""
        if not self._is_ready:
            self._is_ready = True
            self._notify("READY=1")
            self.beat()

    def beat(self) -> None:
        """Report that the loop runs. It may call this as often as it likes."""
        now = self._now_seconds()
        if now < self._next_seconds:
            return
        self._next_seconds = now + self._every_seconds
        self._notify("WATCHDOG=1")
        self._renew_heartbeat()

    def stopping(self) -> None:
        """Report that the process ends by itself, and what it still does takes time."""
        self._notify("STOPPING=1")

    def _renew_heartbeat(self) -> None:
        if self._heartbeat_file is None:
            return
        try:
            self._heartbeat_file.touch()
        except OSError as exc:
            self._log.warning("heartbeat_failed", file=self._heartbeat_file, error=exc.strerror)

    def _notify(self, state: str) -> None:
        if not self._address:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
                # systemd reads at once. If it does not, this process continues.
                sender.setblocking(False)
                sender.sendto(state.encode(), self._address)
        except OSError as exc:
            self._log.warning("systemd_notify_failed", error=exc.strerror)
