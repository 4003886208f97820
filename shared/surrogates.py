"""Halves of surrogate pairs, escaped in a JSON body: JSON, and yet no text."""

import re
from typing import Final

# A pair of surrogates, or, named, one alone, behind any number of escaped backslashes. It begins where a run of
# backslashes does, and never gives one back: 4 MiB of them would else take seconds, and 250 MiB for their matches.
_SURROGATES: Final = re.compile(
    rb"(?<!\\)(?P<before>(?:\\\\)*+)"
    rb"(?:\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|(?P<alone>\\u[dD][89a-fA-F][0-9a-fA-F]{2}))"
)


def mended(body: bytes) -> bytes:
    """Put U+FFFD where half of a surrogate pair is escaped: JSON by the grammar, but no text (RFC 8259, section 8.2).

    A sender that cuts texts at a length cuts emoji in two. One of them must not cost the rest of the bundle.
    """
    if b"\\ud" not in body and b"\\uD" not in body:
        return body
    return _SURROGATES.sub(lambda found: found["before"] + b"\\ufffd" if found["alone"] else found[0], body)
