"""Phone numbers as this service compares them, for the tables of handlers: two spellings of a number have one key."""

from shared.phone_numbers import SEPARATORS, comparable

__all__ = ["SEPARATORS", "comparable"]
