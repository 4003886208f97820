"""Eight web processes on a tenth of a core: they come up, stay, and outlive a stall of seconds."""

import os
import re
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.acceptance.processes import CALLBACKS, TOKEN, WAIT_SECONDS, descendants_of, get, started
from tests.redis_server import RedisServer, free_port

pytestmark = pytest.mark.skipif("CHAOS_SECONDS" not in os.environ, reason="three minutes: `make chaos` runs it")

NUMBER: Final = 8
# uvicorn asks each process twice a second, and would kill one that does not answer within 5 s.
STALL_SECONDS: Final = 20
STAY_SECONDS: Final = 60
MAX_START_SECONDS: Final = 300
_GROUPS: Final = Path("/sys/fs/cgroup")


@pytest.fixture
def tenth_of_a_core() -> Iterator[Path]:
    """Yield a control group whose processes get 10 ms of each 100."""
    name = f"callbacks-test-{os.getpid()}"
    unified = (_GROUPS / "cgroup.controllers").exists()
    group = (_GROUPS if unified else _GROUPS / "cpu") / name
    try:
        group.mkdir()
        if unified:
            (group / "cpu.max").write_text("10000 100000")
        else:
            (group / "cpu.cfs_period_us").write_text("100000")
            (group / "cpu.cfs_quota_us").write_text("10000")
    except OSError as exc:
        pytest.skip(f"no control group can be made: {exc}")
    yield group
    deadline = time.monotonic() + WAIT_SECONDS
    while (group / "cgroup.procs").read_text() and time.monotonic() < deadline:
        time.sleep(0.1)
    group.rmdir()


def test_eight_web_processes_come_up_and_stay(tenth_of_a_core: Path, redis_server: RedisServer, tmp_path: Path) -> None:
    port = free_port()
    environment = {"REDIS_URL": redis_server.url, "CALLBACKS_TOKENS": f"strained={TOKEN}", "PORT": str(port)}
    command = f"echo $$ > {tenth_of_a_core}/cgroup.procs && exec {CALLBACKS} web"
    with started(tmp_path, environment | {"WEB_CONCURRENCY": str(NUMBER)}) as start:
        web = start("-c", command, command="/bin/sh")
        began = time.monotonic()
        while web.output.count("action=started") < NUMBER:
            assert time.monotonic() < began + MAX_START_SECONDS, web.output
            assert web.process.poll() is None, web.output
            time.sleep(1)
        pids = set(descendants_of(tmp_path))
        stay_until = time.monotonic() + STAY_SECONDS
        while time.monotonic() < stay_until:
            web.until(lambda: get(f"http://127.0.0.1:{port}/livez")[0] == 200, "life", pause_seconds=1)
            time.sleep(5)
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        time.sleep(STALL_SECONDS)
        for pid in pids:
            os.kill(pid, signal.SIGCONT)
        web.until(lambda: get(f"http://127.0.0.1:{port}/livez")[0] == 200, "life after the stall", pause_seconds=1)
        time.sleep(STALL_SECONDS)

        assert set(descendants_of(tmp_path)) == pids
        assert not re.findall(r"web_process_restarted|loop_failed", web.output)
