"""Makes texts that every database can store, and that are short enough for an index where they are keys.

Nothing is lost: `raw`, the record as received, is stored as JSON text, which can escape every character.
"""

import hashlib
import json
from typing import Any, Final

import msgspec

from callbacks import phone_numbers

# PostgreSQL indexes at most about 2,700 bytes of a row, and a character takes up to four bytes. The gateway's ids have
# about 40 characters, its customers' ids at most 255.
KEY_CHARACTERS: Final = 400
_DIGEST_BYTES: Final = 16
# PostgreSQL rejects U+0000 in texts; it is replaced by its symbol, "␀".
_NUL_PICTURE: Final = "\u2400"


def storable(text: str) -> str:
    """Return `text` as every database can store it: ␀ (U+2400) for NUL, U+FFFD for a lone surrogate."""
    if text.isascii():
        return text.replace("\0", _NUL_PICTURE)
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace").replace("\0", _NUL_PICTURE)


def storable_key(text: str) -> str:
    """Return `text` for an indexed column: storable and, if it is too long, cut, with a digest at the end.

    Two texts have the same key only if they are equal, apart from what `storable` replaces.
    """
    if len(text) > KEY_CHARACTERS:
        digest = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=_DIGEST_BYTES).hexdigest()
        text = f"{text[: KEY_CHARACTERS - len(digest) - 1]}…{digest}"
    return storable(text)


def optional_key(text: str | None) -> str | None:
    """Return the key of `text`; None for None."""
    return None if text is None else storable_key(text)


def number_key(number: str | None) -> str | None:
    """Return the key under which all spellings of a phone number are found; None for None."""
    return None if number is None else storable_key(phone_numbers.comparable(number))


def json_text(raw: dict[str, Any]) -> str:
    r"""Return `raw` as JSON that decodes to the same; NUL is escaped as \u0000."""
    try:
        return msgspec.json.encode(raw).decode()
    except UnicodeEncodeError:  # a lone surrogate, which can only be escaped
        return json.dumps(raw, separators=(",", ":"))
