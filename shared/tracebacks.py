"""Where an exception was raised, without what it says: a message may quote a body, a number or a token (I9)."""

import traceback
from typing import Final

# Of a group: enough to see the kinds, and no page of them.
_MOST_OF_A_GROUP: Final = 3


def format_redacted(exc: BaseException) -> str:
    """Return the types and places of the whole chain, several lines, without any message."""
    chain: list[str] = []
    link: BaseException | None = exc
    seen: set[int] = set()
    while link is not None and id(link) not in seen:  # a chain may lead back to itself
        seen.add(id(link))
        chain.append(type(link).__qualname__ + "\n" + "".join(traceback.format_tb(link.__traceback__)))
        if isinstance(link, BaseExceptionGroup):
            chain.extend(format_redacted(one) for one in link.exceptions[:_MOST_OF_A_GROUP])
        link = link.__cause__ or link.__context__
    return "caused by ".join(chain)


def type_name(exc: BaseException) -> str:
    """Return the name of its type; of a group, that of the first in it."""
    while isinstance(exc, BaseExceptionGroup):
        exc = exc.exceptions[0]
    return type(exc).__name__
