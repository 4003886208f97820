"""Sealed data: what waits in Redis and in the spool is encrypted, if CALLBACKS_SEAL_KEYS_FILE names a file of keys.

A sealed part stands where its plain text would stand, in the middle of a job's JSON too. Redis's scripts move parts
without reading them. A part opens only in the context that it was sealed for, otherwise it counts as damaged; all
events have one context, as they move from job to job. Without keys nothing is sealed; what was stored before there were
any is read as it is.
"""

import base64
import os
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from shared import sealed_part
from shared.errors import find_cause
from shared.seal_keys import SealKey
from shared.sealed_part import MARK, NotSealed, SealedPart

if TYPE_CHECKING:
    from shared.seal_ciphers import SealCiphers

# The contexts. That of a failure's field is its key in Redis and its name.
CALLBACKS: Final = "callbacks"  # those of an expand job, together
EVENTS: Final = "events"  # each event, in a delivery job, a portion or the feed of live events
SPOOL: Final = "spool"  # a batch of a spool

_DAMAGED: Final = b'"damaged sealed part: '


class Sealed(ValueError):
    """Sealed, and cannot be opened: it is damaged, or was moved here from another place."""


class SealKeyMissing(Sealed):
    """Sealed with a key that this process does not have: it can be read when the key is given."""

    def __init__(self, why: str, key_id: bytes) -> None:
        super().__init__(why)
        self.key_id = key_id.hex()


# Of the whole process: RQ reads jobs with a class of ours, and passes it nothing.
_ciphers: "SealCiphers | None" = None


def use(keys: Sequence[SealKey]) -> None:
    """Seal with the first of these keys from now on, and open with each of them; without keys, seal nothing."""
    global _ciphers  # noqa: PLW0603 # as said above
    if not keys:
        _ciphers = None
        return
    from shared.seal_ciphers import SealCiphers  # noqa: PLC0415 # its library is an extra's

    _ciphers = SealCiphers(keys)


def is_on() -> bool:
    """Return whether this process seals what it stores."""
    return _ciphers is not None


def seal(text: bytes, context: str) -> bytes:
    """Return a text sealed for its context, or as it is if this process seals nothing."""
    return text if _ciphers is None else _ciphers.seal(text, context.encode())


def seal_each(texts: Iterable[bytes], context: str) -> list[bytes]:
    """Return each text as `seal` does."""
    if _ciphers is None:
        return list(texts)
    seal_one, encoded = _ciphers.seal, context.encode()
    return [seal_one(text, encoded) for text in texts]


def unseal(data: bytes, context: str, *, keep_damaged: bool = False) -> bytes:
    """Return a text with each sealed part in it opened. Raise SealKeyMissing and Sealed.

    With `keep_damaged`, a string of JSON that holds the part stands in the place of each that is damaged.
    """
    start = data.find(MARK)
    if start < 0:
        return data
    encoded = context.encode()
    texts: list[bytes] = []
    end = 0
    while start >= 0:
        try:
            part = sealed_part.unpack(data, start)
        except NotSealed:
            raise Sealed(Sealed.__doc__) from None
        texts.append(data[end:start])
        try:
            texts.append(_open(part, encoded))
        except SealKeyMissing:
            raise
        except Sealed:
            if not keep_damaged:
                raise
            texts.append(b'%b%b"' % (_DAMAGED, base64.b64encode(data[start : part.end])))
        end = part.end
        start = data.find(MARK, end)
    texts.append(data[end:])
    return b"".join(texts)


def unseal_whole(data: bytes, context: str) -> bytes:
    """Return what one sealed part holds; other data, which need not be text, as they are. Raise as `unseal` does."""
    part = _find_whole(data)
    return data if part is None else _open(part, context.encode())


def has_damaged(text: bytes) -> bool:
    """Return whether something sealed, or what `unseal` puts in the place of a damaged part, stands in a text."""
    return MARK in text or text.startswith(_DAMAGED)


def is_sealed(data: bytes) -> bool:
    """Return whether data, which need not be text, are one sealed part."""
    return _find_whole(data) is not None


def key_ids(text: bytes) -> frozenset[str]:
    """Return the ids of the keys with which the parts of a text are sealed, as far as they can be found."""
    found: set[str] = set()
    start = text.find(MARK)
    with suppress(NotSealed):
        while start >= 0:
            part = sealed_part.unpack(text, start)
            found.add(part.key_id.hex())
            start = text.find(MARK, part.end)
    return frozenset(found)


def _find_whole(data: bytes) -> SealedPart | None:
    if not data.startswith(MARK):
        return None
    try:
        part = sealed_part.unpack(data)
    except NotSealed:
        return None
    return part if part.end == len(data) else None


def find_missing_key(error: BaseException | None) -> str | None:
    """Return the id of the key that is missing, if this is why an error was raised."""
    missing = find_cause(error, SealKeyMissing)
    return None if missing is None else missing.key_id


def _open(part: SealedPart, context: bytes) -> bytes:
    if _ciphers is None:
        raise SealKeyMissing(
            _missing(part, "and CALLBACKS_SEAL_KEYS_FILE is not set: set it to the file with that key"), part.key_id
        )
    try:
        text = _ciphers.open(part, context)
    except KeyError:
        why = _missing(part, "which is not in CALLBACKS_SEAL_KEYS_FILE: add it to that file")
        raise SealKeyMissing(why, part.key_id) from None
    if text is None:
        raise Sealed(Sealed.__doc__)
    return text


def _missing(part: SealedPart, what: str) -> str:
    return f"sealed with key {part.key_id.hex()}, {what}"


def _drop_salt() -> None:
    if _ciphers is not None:
        _ciphers.drop_salt()


os.register_at_fork(after_in_child=_drop_salt)
