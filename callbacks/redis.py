"""Connections to Redis for handlers that write to one: to every address that REDIS_URL may be, Sentinel's too."""

from shared.connections import check_url, connect, redact_url

__all__ = ["check_url", "connect", "redact_url"]
