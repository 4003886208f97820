"""Tracebacks without messages: a message may quote a body, a number or a token (I9)."""

import traceback
from typing import Final

# Enough of a group to see its kinds.
_MAX_OF_GROUP: Final = 3


def format_redacted(exc: BaseException) -> str:
    """Return the types and places of the whole chain of exceptions, in several lines, without any message."""
    chain: list[str] = []
    link: BaseException | None = exc
    seen: set[int] = set()
    while link is not None and id(link) not in seen:  # a chain may be a cycle
        seen.add(id(link))
        chain.append(type(link).__qualname__ + "\n" + "".join(traceback.format_tb(link.__traceback__)))
        if isinstance(link, BaseExceptionGroup):
            chain.extend(format_redacted(each) for each in link.exceptions[:_MAX_OF_GROUP])
        link = link.__cause__ or link.__context__
    return "caused by ".join(chain)


def type_name(exc: BaseException) -> str:
    """Return the name of the type of `exc`; of a group, that of its first exception."""
    while isinstance(exc, BaseExceptionGroup):
        exc = exc.exceptions[0]
    return type(exc).__name__
