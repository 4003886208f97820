"""What a column of text can hold, in every database: readable, encodable, and short enough where it is a key.

Nothing is lost by it: `raw`, the record as received, is kept as JSON text, where every character has an escape.
"""

import hashlib
import json
from typing import Any, Final

import msgspec

# PostgreSQL indexes at most some 2,700 bytes of a row, and a character takes up to four. The gateway's own ids have
# some 40 characters, and its customers' at most 255.
KEY_CHARACTERS: Final = 400
_DIGEST_BYTES: Final = 16
# PostgreSQL refuses U+0000 in texts; this is the picture of it, "␀".
_NUL_PICTURE: Final = "\u2400"


def storable(text: str) -> str:
    """Give `text` as every database takes it: ␀ (U+2400) for NUL, U+FFFD for half of a surrogate pair."""
    if text.isascii():
        return text.replace("\0", _NUL_PICTURE)
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace").replace("\0", _NUL_PICTURE)


def storable_key(text: str) -> str:
    """Give `text` as columns hold it that are searched by: readable, and if it is too long, cut, with its digest.

    Two texts give the same key only if they are the same (or differ in nothing but what `storable` replaces).
    """
    if len(text) > KEY_CHARACTERS:
        digest = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=_DIGEST_BYTES).hexdigest()
        text = f"{text[: KEY_CHARACTERS - len(digest) - 1]}…{digest}"
    return storable(text)


def optional_key(text: str | None) -> str | None:
    """Give the key of `text`, or None."""
    return None if text is None else storable_key(text)


def json_text(raw: dict[str, Any]) -> str:
    r"""Give `raw` as JSON that reads back as it was; NUL stands in it as \u0000, six harmless characters."""
    try:
        return msgspec.json.encode(raw).decode()
    except UnicodeEncodeError:  # half of a surrogate pair, of which only an escape can be made
        return json.dumps(raw, separators=(",", ":"))
