"""Phone numbers as this service compares them, for the tables of handlers: two spellings of a number have one key."""

from shared.phone_numbers import comparable

__all__ = ["comparable"]
