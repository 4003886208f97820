"""What systemd and a container platform see of each process: ready, alive, hanging, stopping."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest
import yaml

from tests.acceptance.processes import WAIT_SECONDS, started
from tests.deploy.deployment import DEPLOY, environment
from tests.redis_server import RedisServer, free_port

PROCESSES: Final = {
    "web": ("web",),
    "several webs": ("web",),
    "expand": ("worker", "expand"),
    "deliver": ("worker", "deliver"),
    "ops": ("ops",),
}
COMPOSE: Final = yaml.safe_load((DEPLOY / "compose" / "compose.yaml").read_text())


@pytest.fixture
def systemd(tmp_path: Path) -> Iterator[socket.socket]:
    """Yield the socket on which systemd waits for notifications."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(str(tmp_path / "notify"))
        receiver.settimeout(WAIT_SECONDS)
        yield receiver


def wait_for(systemd: socket.socket, state: str) -> None:
    while systemd.recv(100).decode() != state:
        pass


def drain(systemd: socket.socket) -> None:
    """Throw away what has come."""
    systemd.setblocking(False)
    try:
        while systemd.recv(100):
            pass
    except BlockingIOError:
        systemd.settimeout(WAIT_SECONDS)


def is_stopped(pid: int) -> bool:
    return "\nState:\tT" in Path(f"/proc/{pid}/status").read_text()


@pytest.mark.parametrize("name", PROCESSES)
def test_systemd_and_a_probe_see_that_it_is_ready_alive_hanging_and_stopping(
    name: str, systemd: socket.socket, redis_server: RedisServer, tmp_path: Path
) -> None:
    heartbeat = tmp_path / "heartbeat"
    named = environment(redis_server.url, free_port(), tmp_path)
    named |= {"CALLBACKS_OPS_PORT": str(free_port()), "WEB_CONCURRENCY": "2" if name == "several webs" else "1"}
    named |= {"NOTIFY_SOCKET": systemd.getsockname(), "CALLBACKS_HEARTBEAT_FILE": str(heartbeat)}
    with started(tmp_path, named) as start:
        running = start(*PROCESSES[name])
        wait_for(systemd, "READY=1")
        wait_for(systemd, "WATCHDOG=1")
        os.utime(heartbeat, (0, 0))
        running.until(lambda: heartbeat.stat().st_mtime > 0, "a heartbeat")

        running.send(signal.SIGSTOP)
        running.until(lambda: is_stopped(running.process.pid), "the stop")
        drain(systemd)
        os.utime(heartbeat, (0, 0))
        systemd.settimeout(1.5)
        with pytest.raises(TimeoutError):
            wait_for(systemd, "WATCHDOG=1")
        assert heartbeat.stat().st_mtime == 0
        running.send(signal.SIGCONT)
        systemd.settimeout(WAIT_SECONDS)
        wait_for(systemd, "WATCHDOG=1")

        running.send(signal.SIGTERM)
        wait_for(systemd, "STOPPING=1")
        assert running.wait() == 0


@pytest.mark.parametrize(("age_seconds", "exit_code"), [(1, 0), (600, 1), (None, 1)])
def test_the_probe_of_a_worker_is_of_the_age_of_its_heartbeat(
    age_seconds: int | None, exit_code: int, tmp_path: Path
) -> None:
    heartbeat = tmp_path / "heartbeat"
    if age_seconds is not None:
        heartbeat.touch()
        os.utime(heartbeat, (time.time() - age_seconds,) * 2)
    for service in ("expand", "deliver"):
        written = COMPOSE["services"][service]["environment"]["CALLBACKS_HEARTBEAT_FILE"]
        _, _, *command = COMPOSE["services"][service]["healthcheck"]["test"]
        assert written in command[-1]
        command[-1] = command[-1].replace(written, str(heartbeat))
        ended = subprocess.run([sys.executable, *command], capture_output=True, text=True, check=False)

        assert ended.returncode == exit_code, ended.stderr
        assert ("no sign of life for 60" in ended.stderr) == (age_seconds == 600)
