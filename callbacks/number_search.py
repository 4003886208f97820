"""Search texts for phone numbers, however they are written, for the stores of handlers."""

from shared.number_search import NumberSearch

__all__ = ["NumberSearch"]
