"""Loggers for handlers that log an action with its fields, as the built-in ones do. `logging` does as well."""

from shared.structured_log import get_logger

__all__ = ("get_logger",)
