"""Connections to Redis for handlers: to any URL that REDIS_URL may have, Sentinel included."""

from shared.connections import check_url, connect, describe_error, redact_url

__all__ = ["check_url", "connect", "describe_error", "redact_url"]
