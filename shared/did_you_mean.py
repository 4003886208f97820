"""Suggestions for misspelt names."""

import difflib
from collections.abc import Iterable


def closest(name: str, known: Iterable[str]) -> str | None:
    """Return the most similar of the `known` names, without regard to case; None if none is similar."""
    folded = {each.casefold(): each for each in known}
    found = difflib.get_close_matches(name.casefold(), folded, n=1)
    return folded[found[0]] if found else None


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return a suggestion for the end of an error message about `name`; "" if no known name is similar."""
    meant = closest(name, known)
    return "" if meant is None else f" (did you mean {meant!r}?)"
