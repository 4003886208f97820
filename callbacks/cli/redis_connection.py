"""A command's connection to the Redis of the settings."""

from collections.abc import Iterator
from contextlib import contextmanager

import click
import redis

from shared import connections, sealed_data, settings
from shared.setting_groups.setting import Process
from shared.settings import Settings


@contextmanager
def open_redis(process: Process = "command") -> Iterator[tuple[Settings, redis.Redis]]:
    """Yield the settings and a client. An error of Redis ends the command with exit code 1.

    Raise ConfigurationError if the settings are wrong, or REDIS_URL is not set.
    """
    loaded = settings.load(process=process, needs=("REDIS_URL",))
    sealed_data.use(loaded.seal_keys)
    client = connections.connect(loaded.redis_url)
    try:
        yield loaded, client
    except redis.RedisError as exc:
        raise click.ClickException(
            f"{connections.redact_url(loaded.redis_url)} cannot be used: {connections.describe_error(exc)}"
        ) from exc
    finally:
        client.close()
