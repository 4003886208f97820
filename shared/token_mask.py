"""Keeps tokens out of what is written or kept: the known ones however they are encoded, and any in a callback URL."""

import re
from collections.abc import Callable, Iterable
from typing import Final

_MASK: Final = "***"
_IN_URL: Final = re.compile(r"(/callbacks/+)[^/\s?]+", re.IGNORECASE)


def token_mask(secrets: Iterable[str]) -> Callable[[str], str]:
    """Return a function that masks these tokens anywhere in a text, and any path segment after /callbacks/.

    Each character of a token may be percent-encoded, once or several times.
    """
    encodings = ["".join(map(_encodings, secret)) for secret in sorted(secrets, key=len, reverse=True) if secret]
    known = re.compile("|".join(encodings)) if encodings else None

    def mask(text: str) -> str:
        masked = _IN_URL.sub(rf"\1{_MASK}", text)
        return known.sub(_MASK, masked) if known is not None else masked

    return mask


def _encodings(character: str) -> str:
    encoded = "".join(f"%(?:25)*{byte:02x}" for byte in character.encode())
    return f"(?:{re.escape(character)}|(?i:{encoded}))"
