"""Search texts for phone numbers, however they are written, for the stores of handlers."""

from shared.number_search import NotANumber, NumberSearch

__all__ = ["NotANumber", "NumberSearch"]
