"""A process's keys and their ciphers: how a part is sealed and opened (AES-256-GCM).

The cipher's key is derived (HKDF) from a key of the file and a salt, which each process draws at random; the nonce is
the number of the part. So no cipher uses a nonce twice, by however many processes: with random nonces a key of the file
would be worn out after 2³² parts, a few days of full load. AES-GCM-SIV, which forgives a repeated nonce, takes six to
fourteen times as long.
"""

import functools
import itertools
import os
from collections.abc import Sequence
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from shared.seal_keys import KEY_BYTES, SealKey
from shared.sealed_part import MAX_NUMBER, SALT_BYTES, SealedPart

_NONCE_BYTES: Final = 12
# One for each process whose parts still wait.
_CIPHERS_KEPT: Final = 256


class SealCiphers:
    """The first key seals, each opens."""

    def __init__(self, keys: Sequence[SealKey]) -> None:
        self._newest = keys[0]
        self._secrets = {key.id: key.secret for key in keys}
        self._cipher_of = functools.lru_cache(_CIPHERS_KEPT)(self._find_cipher)
        self._sealer = _Sealer(self._newest)

    def renew_salt(self) -> None:
        """Use another salt from now on, as a forked process must: it would go on with its parent's numbers."""
        self._sealer = _Sealer(self._newest)

    def seal(self, text: bytes, context: bytes) -> SealedPart:
        """Return a text sealed for its context."""
        while (part := self._sealer.seal(text, context)) is None:
            self.renew_salt()
        return part

    def open(self, part: SealedPart, context: bytes) -> bytes | None:
        """Return a part's text; None if it is damaged or was sealed for another context. Raise KeyError for its key."""
        cipher = self._cipher_of(part.key_id, part.salt)
        try:
            return cipher.decrypt(_nonce(part.number), part.ciphertext, context)
        except InvalidTag:
            return None

    def _find_cipher(self, key_id: bytes, salt: bytes) -> AESGCM:
        return _derive_cipher(self._secrets[key_id], salt)


class _Sealer:
    """Seals with one salt, and so with one cipher."""

    def __init__(self, key: SealKey) -> None:
        self._key_id, self._salt = key.id, os.urandom(SALT_BYTES)
        self._cipher = _derive_cipher(key.secret, self._salt)
        self._numbers = itertools.count()

    def seal(self, text: bytes, context: bytes) -> SealedPart | None:
        """Return a sealed part; None if all numbers are used."""
        number = next(self._numbers)
        if number > MAX_NUMBER:
            return None
        return SealedPart(self._key_id, self._salt, number, self._cipher.encrypt(_nonce(number), text, context))


def _derive_cipher(secret: bytes, salt: bytes) -> AESGCM:
    return AESGCM(HKDF(SHA256(), KEY_BYTES, salt, b"callbacks sealed data").derive(secret))


def _nonce(number: int) -> bytes:
    return number.to_bytes(_NONCE_BYTES, "big")
