"""A sealed part as it is stored. It begins with a byte that no text in UTF-8 has, so it is found in the middle of one.

ff 01 | bytes of the ciphertext (4) | id of the key (4), salt (12) | number (4) | ciphertext with its tag (16)
"""

import re
import struct
from typing import Final

from msgspec import Struct

from shared.seal_keys import ID_BYTES

SALT_BYTES: Final = 12
MAX_NUMBER: Final = (1 << 32) - 1
MARK: Final = b"\xff"

_START: Final = MARK + b"\x01"
_HEADER: Final = struct.Struct(f">{len(_START)}sI{ID_BYTES + SALT_BYTES}sI")
_TAG_BYTES: Final = 16
# A batch of a spool has at most some ten MiB, so the first of these bytes is 0 or 1.
_LIKELY_START: Final = re.compile(re.escape(_START) + rb"[\x00\x01]")
# What a part is longer than its text.
OVERHEAD_BYTES: Final = _HEADER.size + _TAG_BYTES


class NotSealed(ValueError):
    """No whole sealed part begins there."""


class SealedPart(Struct, frozen=True, gc=False):
    """A part: the id of its key with the salt of its cipher, its number, its ciphertext, and where it ends."""

    cipher_id: bytes
    number: int
    ciphertext: bytes
    end: int

    @property
    def key_id(self) -> bytes:
        """The id of the key from which its cipher is derived."""
        return self.cipher_id[:ID_BYTES]


def pack(cipher_id: bytes, number: int, ciphertext: bytes) -> bytes:
    """Return a part as it is stored."""
    return _HEADER.pack(_START, len(ciphertext), cipher_id, number) + ciphertext


def unpack(data: bytes, start: int = 0) -> SealedPart:
    """Return the part that begins at a position. Raise NotSealed."""
    try:
        first, size, cipher_id, number = _HEADER.unpack_from(data, start)
    except struct.error:
        raise NotSealed(NotSealed.__doc__) from None
    begin = start + _HEADER.size
    end = begin + size
    if first != _START or size < _TAG_BYTES or end > len(data):
        raise NotSealed(NotSealed.__doc__)
    return SealedPart(cipher_id, number, data[begin:end], end)


def is_likely_in(block: bytes) -> bool:
    """Return whether a sealed part seems to begin in the bytes of a file whose format is not known here."""
    return _LIKELY_START.search(block) is not None
