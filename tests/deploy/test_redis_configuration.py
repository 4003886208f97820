"""deploy/redis/redis.conf: a Redis that is started with it is as `callbacks check` wants it."""

import json
import re
from pathlib import Path

from tests.acceptance.processes import run
from tests.deploy.deployment import DEPLOY, TOKEN
from tests.redis_server import StartRedis

CONFIGURATION = DEPLOY / "redis" / "redis.conf"
# The opposite of what the file says, so that only the file can correct it.
CARELESS = {"appendonly": "no", "appendfsync": "no", "maxmemory-policy": "allkeys-lru", "save": "60 1"}


def test_the_check_finds_nothing_to_say_about_redis(start_redis: StartRedis, tmp_path: Path) -> None:
    server = start_redis({**CARELESS, "include": str(CONFIGURATION)})

    ended = run(
        *("check", "--json"),
        cwd=tmp_path,
        environment={
            "REDIS_URL": server.url,
            "CALLBACKS_TOKENS": f"main={TOKEN}",
            "CALLBACKS_RETENTION_DAYS": "30",
        },
    )

    assert ended.returncode == 0, ended.stdout
    assert [finding for finding in json.loads(ended.stdout) if finding["state"] != "ok"] == []


def test_redis_takes_every_line_as_it_stands(start_redis: StartRedis) -> None:
    server = start_redis({**CARELESS, "include": str(CONFIGURATION)})
    lines = [line.split(maxsplit=1) for line in CONFIGURATION.read_text().splitlines() if re.match("[a-z]", line)]

    with server.client() as client:
        for name, value in lines:
            found = client.config_get(name)[name]
            meant = re.sub("([0-9]+)mb", lambda size: str(int(size[1]) << 20), value.strip('"'))
            # Limits of buffers hold for every class of clients.
            assert f" {found}".endswith(f" {meant}"), name


def test_every_line_is_explained() -> None:
    paragraphs = CONFIGURATION.read_text().split("\n\n")

    assert all(paragraph.startswith("# ") for paragraph in paragraphs)
