"""Halves of surrogate pairs, escaped in a JSON body: JSON, and yet no text."""

import re
from typing import Final

from shared.cooperative import Stepwise

# A pair of surrogates, or, named, one alone, behind any number of escaped backslashes. It begins where a run of
# backslashes does, and never gives one back: 4 MiB of them would else take seconds, and 250 MiB for their matches.
_SURROGATES: Final = re.compile(
    rb"(?<!\\)(?:\\\\)*+"
    rb"(?:\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|(?P<lone>\\u[dD][89a-fA-F][0-9a-fA-F]{2}))"
)
# A match takes about 0.3 µs.
_MATCHES_PER_STEP: Final = 20_000


def replace_lone_surrogates(body: bytes) -> Stepwise[bytes]:
    """Put U+FFFD where half of a surrogate pair is escaped: JSON by the grammar, but no text (RFC 8259, section 8.2).

    A sender that cuts texts at a length cuts emoji in two. One of them must not cost the rest of the bundle.
    """
    if b"\\ud" not in body and b"\\uD" not in body:
        return body
    text, begin = bytearray(), 0
    for number, found in enumerate(_SURROGATES.finditer(body), start=1):
        if found["lone"]:
            text += body[begin : found.start("lone")]
            text += b"\\ufffd"
            begin = found.end()
        if number % _MATCHES_PER_STEP == 0:
            yield
    return bytes(text + body[begin:]) if begin else body
