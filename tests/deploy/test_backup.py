"""The runbook's backup and restore: what was acknowledged is there again, elsewhere, and the audit balances."""

import subprocess
from pathlib import Path

import pytest

from shared import audit
from tests.acceptance.processes import get, run, started
from tests.deploy.deployment import TOKEN, environment
from tests.docs.pages import Block, with_blocks
from tests.redis_server import RedisServer, StartRedis, free_port

PAGE = "docs/operations.md"


@pytest.mark.skipif(not Path("/usr/bin/redis-cli").exists(), reason="no redis-cli")
@with_blocks(PAGE, "Backup")
def test_a_copy_of_a_running_redis_starts_elsewhere_and_continues(
    start_redis: StartRedis, tmp_path: Path, blocks: list[Block]
) -> None:
    (block,) = blocks
    server, port, backup = start_redis(), free_port(), tmp_path / "backup"
    with started(tmp_path, environment(server.url, port, tmp_path)) as start:
        web = start("web")
        web.until(lambda: get(f"http://127.0.0.1:{port}/readyz")[0] == 200, "readiness")
        expand = start("worker", "expand")
        gateway = start(
            *("simulate", f"http://127.0.0.1:{port}/callbacks/{TOKEN}"),
            *("--destinations", "500", "--retry-seconds", "0.1"),
        )
        assert gateway.wait() == 0, gateway.output
        with server.client(decode_responses=False) as client:
            expand.until(lambda: audit.run(client).waiting == 0, "all to be expanded")
            before = audit.run(client)

        script = block.text.replace("/var/lib/redis", str(server.folder)).replace("/srv/backup", str(backup))
        done = subprocess.run(
            ["sh", "-euc", script],
            env={"PATH": "/usr/bin:/bin", "REDIS_URL": server.url},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
    server.kill()

    restored = RedisServer()
    (copied,) = backup.iterdir()
    subprocess.run(["cp", "-a", f"{copied}/.", str(restored.folder)], check=True)
    with restored, restored.client(decode_responses=False) as client:
        after = audit.run(client)
        assert (after.received, after.pending) == (before.received, before.pending)
        assert after.pending > 1000
        with started(tmp_path, environment(restored.url, free_port(), tmp_path)) as start:
            deliver = start("worker", "deliver")
            deliver.until(lambda: audit.run(client).pending == 0, "rest")
        assert run("audit", cwd=tmp_path, environment={"REDIS_URL": restored.url}).returncode == 0


@with_blocks(PAGE, "Backup")
def test_no_rewrite_begins_while_files_are_copied(blocks: list[Block]) -> None:
    """Otherwise a manifest could name files that the copy does not have."""
    script = blocks[0].text

    assert script.index("auto-aof-rewrite-percentage 0") < script.index("in_progress") < script.index("cp -a")
    assert script.index("cp -a") < script.index("auto-aof-rewrite-percentage 100")
