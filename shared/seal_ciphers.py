"""A process's keys and their ciphers: how a part is sealed and opened (AES-256-GCM).

The cipher's key is derived (HKDF) from a key of the file and a salt, which each process draws at random; the nonce is
the number of the part. So no cipher uses a nonce twice, by however many processes: with random nonces a key of the file
would be worn out after 2³² parts, a few days of full load. AES-GCM-SIV, which forgives a repeated nonce, takes six to
fourteen times as long.
"""

import itertools
import os
from collections.abc import Iterator, Sequence
from typing import Final, TypeAlias

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from shared import sealed_part
from shared.seal_keys import ID_BYTES, KEY_BYTES, SealKey
from shared.sealed_part import MAX_NUMBER, SALT_BYTES, SealedPart

_NONCE_BYTES: Final = 12
# One for each process whose parts still wait.
_CIPHERS_KEPT: Final = 256

# What names the cipher in a part, the cipher, and the numbers that it has not used.
_Sealing: TypeAlias = tuple[bytes, AESGCM, Iterator[int]]


class SealCiphers:
    """The first key seals, each opens."""

    def __init__(self, keys: Sequence[SealKey]) -> None:
        self._newest = keys[0]
        self._secrets = {key.id: key.secret for key in keys}
        self._opening: dict[bytes, AESGCM] = {}
        self._sealing: _Sealing | None = None

    def drop_salt(self) -> None:
        """Draw another salt before the next part, as a forked process must: it would go on with its parent's numbers.

        Nothing is drawn or derived here, which could fail: Python only prints what a hook of a fork raises.
        """
        self._sealing = None

    def seal(self, text: bytes, context: bytes) -> bytes:
        """Return a text sealed for its context, as it is stored."""
        cipher_id, cipher, numbers = self._sealing or self._draw_salt()
        number = next(numbers)
        if number > MAX_NUMBER:
            self.drop_salt()
            return self.seal(text, context)
        return sealed_part.pack(cipher_id, number, cipher.encrypt(number.to_bytes(_NONCE_BYTES), text, context))

    def open(self, part: SealedPart, context: bytes) -> bytes | None:
        """Return a part's text; None if it is damaged or was sealed for another context. Raise KeyError for its key."""
        cipher = self._opening.get(part.cipher_id) or self._add_cipher(part.cipher_id)
        try:
            return cipher.decrypt(part.number.to_bytes(_NONCE_BYTES), part.ciphertext, context)
        except InvalidTag:
            return None

    def _draw_salt(self) -> _Sealing:
        salt = os.urandom(SALT_BYTES)
        # Replaced as one, as another thread may seal at this moment.
        self._sealing = sealing = (
            self._newest.id + salt,
            _derive_cipher(self._newest.secret, salt),
            itertools.count(),
        )
        return sealing

    def _add_cipher(self, cipher_id: bytes) -> AESGCM:
        cipher = _derive_cipher(self._secrets[cipher_id[:ID_BYTES]], cipher_id[ID_BYTES:])
        if len(self._opening) >= _CIPHERS_KEPT:
            self._opening.clear()
        self._opening[cipher_id] = cipher
        return cipher


def _derive_cipher(secret: bytes, salt: bytes) -> AESGCM:
    return AESGCM(HKDF(SHA256(), KEY_BYTES, salt, b"callbacks sealed data").derive(secret))
