"""What tests of the files for operators share."""

from pathlib import Path

import pytest

from tests.deploy import redis_rights
from tests.redis_server import RedisServer, StartRedis


@pytest.fixture
def restricted_redis(start_redis: StartRedis, tmp_path: Path) -> RedisServer:
    """Start a server with the users of deploy/redis/users.conf, and one with all rights, for the tests themselves."""
    users = tmp_path / "users.conf"
    users.write_text(redis_rights.TEXT.replace("user default off", "user default on nopass"))
    return start_redis({"include": str(users)})
