"""The keys of CALLBACKS_SEAL_KEYS_FILE: one a line, the newest first. No error and no repr shows any of a key."""

import base64
import hashlib
import importlib.util
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from callbacks.distribution import install_command

KEY_BYTES: Final = 32
ID_BYTES: Final = 4
_EXAMPLE: Final = "openssl rand -base64 32"
# Random keys have about 30. Fewer are a placeholder such as 64 zeros.
_MIN_DIFFERENT_BYTES: Final = 16


@dataclass(frozen=True, slots=True)
class SealKey:
    """A key, and its id: the first bytes of a digest of it, by which what it sealed names it."""

    id: bytes
    secret: bytes = field(repr=False)


def parse_seal_keys(value: str) -> tuple[SealKey, ...]:
    """Return the keys in the file at this path, none if it is empty. Raise ValueError, whose message holds no key."""
    if not value:
        return ()
    if importlib.util.find_spec("cryptography") is None:
        raise ValueError(f"needs the package cryptography: {install_command('seal')}")
    try:
        lines = Path(value).read_text(encoding="utf-8-sig").splitlines()
    except OSError as exc:
        raise ValueError(f"{value} cannot be read: {exc.strerror}") from exc
    except UnicodeDecodeError:
        # Not chained: it quotes the bytes that it could not read.
        raise ValueError(f"{value} is not text in UTF-8") from None
    keys: dict[bytes, SealKey] = {}
    for number, line in enumerate(map(str.strip, lines), start=1):
        if not line or line.startswith("#"):
            continue
        key = _parse_line(line)
        if key is None:
            raise ValueError(
                f"{value}: line {number} is not a key: {KEY_BYTES} random bytes in base64 or in hexadecimal digits, "
                f"as `{_EXAMPLE}` prints them"
            )
        if key.id in keys:
            raise ValueError(f"{value}: line {number} is a key that another line has too; remove one of them")
        keys[key.id] = key
    if not keys:
        raise ValueError(f"{value} has no key; make one with `{_EXAMPLE}`")
    return tuple(keys.values())


def _parse_line(line: str) -> SealKey | None:
    try:
        secret = (
            bytes.fromhex(line) if re.fullmatch(r"[0-9a-fA-F]{64}", line) else base64.b64decode(line, validate=True)
        )
    except ValueError:  # not base64, or a character that is not ASCII
        return None
    if len(secret) != KEY_BYTES or len(set(secret)) < _MIN_DIFFERENT_BYTES:
        return None
    return SealKey(hashlib.blake2b(secret, digest_size=ID_BYTES, person=b"callbacks key id").digest(), secret)
