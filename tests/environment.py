"""The environment of the tests: what a developer's shell says about servers that are not ours is not in it."""

import os
from typing import Final

_OTHERS: Final = ("REDIS_URL", "DATABASE_URL", "PORT", "HOST", "WEB_CONCURRENCY", "FORWARDED_ALLOW_IPS")


def stripped_environment() -> dict[str, str]:
    """Return this process's environment without what names servers, addresses or secrets."""
    return {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("CALLBACKS_", "OTEL_")) and name not in _OTHERS
    }
