"""What a misspelt name was meant to be."""

import difflib
from collections.abc import Iterable


def closest(name: str, known: Iterable[str]) -> str | None:
    """Give the one of `known` that `name` is likest to, capitals aside; None if it is like none."""
    folded = {one.casefold(): one for one in known}
    found = difflib.get_close_matches(name.casefold(), folded, n=1)
    return folded[found[0]] if found else None


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Give the question to put behind a name that is not known; "" if it is like none."""
    meant = closest(name, known)
    return "" if meant is None else f" (did you mean {meant!r}?)"
