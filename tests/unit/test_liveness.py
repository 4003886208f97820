"""The signs of life of a process: what systemd gets by a real socket, and the file whose age a probe reads."""

import asyncio
import logging
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
import uvicorn
from starlette.applications import Starlette

from callbacks.cli.live_server import LiveServer
from shared.liveness import Liveness


@pytest.fixture
def systemd(tmp_path: Path) -> Iterator[socket.socket]:
    """Yield the socket on which systemd waits for notifications."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(str(tmp_path / "notify"))
        receiver.setblocking(False)
        yield receiver


def received(systemd: socket.socket) -> list[str]:
    """Return what came since the last call."""
    found = []
    while True:
        try:
            found.append(systemd.recv(100).decode())
        except BlockingIOError:
            return found


@pytest.fixture
def clock() -> list[float]:
    return [1000.0]


def notifying(systemd: socket.socket, clock: list[float], *, watchdog_seconds: float | None = None) -> Liveness:
    return Liveness(
        notify_socket=systemd.getsockname(), watchdog_seconds=watchdog_seconds, now_seconds=lambda: clock[0]
    )


def test_ready_is_said_once_and_with_a_first_beat(systemd: socket.socket, clock: list[float]) -> None:
    liveness = notifying(systemd, clock)
    liveness.ready()
    liveness.ready()
    liveness.stopping()

    assert received(systemd) == ["READY=1", "WATCHDOG=1", "STOPPING=1"]


@pytest.mark.parametrize(("watchdog_seconds", "every_seconds"), [(None, 0.5), (60.0, 1.0), (0.5, 0.25)])
def test_the_watchdog_hears_at_half_of_its_time_or_each_second(
    systemd: socket.socket, clock: list[float], watchdog_seconds: float | None, every_seconds: float
) -> None:
    liveness = notifying(systemd, clock, watchdog_seconds=watchdog_seconds)
    for _ in range(16):
        liveness.beat()
        clock[0] += every_seconds / 8

    assert received(systemd) == ["WATCHDOG=1"] * 2


def test_a_loop_that_hangs_is_silent_however_long(systemd: socket.socket, clock: list[float]) -> None:
    liveness = notifying(systemd, clock)
    liveness.ready()
    received(systemd)
    clock[0] += 1000

    assert received(systemd) == []


def test_an_abstract_socket_is_one_after_an_at_sign() -> None:
    name = f"callbacks-liveness-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(f"\0{name}")
        Liveness.from_environment("", {"NOTIFY_SOCKET": f"@{name}"}).ready()

        assert received_within_a_second(receiver) == "READY=1"


def received_within_a_second(receiver: socket.socket) -> str:
    receiver.settimeout(1)
    return receiver.recv(100).decode()


@pytest.mark.parametrize(
    ("environ", "every_seconds"),
    [
        ({"WATCHDOG_USEC": "500000"}, 0.25),
        ({"WATCHDOG_USEC": "500000", "WATCHDOG_PID": str(os.getpid())}, 0.25),
        ({"WATCHDOG_USEC": "500000", "WATCHDOG_PID": "1"}, 0.5),
        ({"WATCHDOG_USEC": "soon"}, 0.5),
        ({}, 0.5),
    ],
)
def test_the_watchdogs_time_is_that_of_the_process_that_systemd_started(
    environ: dict[str, str], every_seconds: float
) -> None:
    assert Liveness.from_environment("", environ)._every_seconds == every_seconds


def test_without_systemd_and_without_a_file_nothing_happens(caplog: pytest.LogCaptureFixture) -> None:
    liveness = Liveness.from_environment("", {})
    liveness.ready()
    liveness.stopping()

    assert not caplog.records


def test_a_systemd_that_is_gone_is_logged_and_changes_nothing(
    systemd: socket.socket, clock: list[float], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "callbacks")
    liveness = notifying(systemd, clock)
    Path(systemd.getsockname()).unlink()
    liveness.ready()

    assert [record.getMessage() for record in caplog.records] == [
        'action=systemd_notify_failed count=1 error="No such file or directory"'
    ]


def test_the_heartbeat_file_is_there_before_the_loop_and_renewed_by_it(tmp_path: Path, clock: list[float]) -> None:
    file = tmp_path / "heartbeat"
    liveness = Liveness(heartbeat_file=str(file), now_seconds=lambda: clock[0])
    os.utime(file, (0, 0))
    liveness.beat()

    assert file.stat().st_mtime > 0


def test_a_heartbeat_file_that_cannot_be_written_is_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, "callbacks")
    Liveness(heartbeat_file=str(tmp_path / "nowhere" / "heartbeat"))

    assert "action=heartbeat_failed" in caplog.text
    assert "No such file or directory" in caplog.text


def test_a_server_is_ready_when_it_listens_and_beats_by_its_event_loop(
    systemd: socket.socket, clock: list[float]
) -> None:
    async def serve() -> None:
        with socket.create_server(("127.0.0.1", 0)) as listening:
            server = LiveServer(uvicorn.Config(Starlette(), log_config=None), notifying(systemd, clock))
            serving = asyncio.create_task(server._serve([listening]))
            while not server.started:  # noqa: ASYNC110 # an event is what the product has no use for
                await asyncio.sleep(0)
            assert received(systemd) == ["READY=1", "WATCHDOG=1"]
            clock[0] += 1
            server.should_exit = True
            await serving

    asyncio.run(serve())

    assert received(systemd) == ["WATCHDOG=1", "STOPPING=1"]
