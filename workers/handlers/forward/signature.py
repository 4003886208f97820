"""The symmetric signature (`v1`) of Standard Webhooks, made with each valid secret, so that secrets can be rotated.

A secret is written as in the specification: `whsec_` and 24 to 64 bytes in base64. No secret appears in any message.
"""

import base64
import binascii
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from standardwebhooks import Webhook

HOW_TO_MAKE: Final = 'make one with: echo "whsec_$(openssl rand -base64 32)", and give it to the receiver too'
# The value that turns signatures off.
UNSIGNED: Final = "none"

_PREFIX: Final = "whsec_"
_MIN_BYTES: Final = 24
_MAX_BYTES: Final = 64


def parse_secrets(value: str) -> tuple[str, ...]:
    """Parse secrets, separated by commas or white space; `none`: no secrets. Raise ValueError, which quotes nothing."""
    if value == UNSIGNED:
        return ()
    found = tuple(dict.fromkeys(filter(None, re.split(r"[\s,]+", value))))
    if not found:
        raise ValueError(f"holds no secret; {HOW_TO_MAKE}")
    for position, secret in enumerate(found, start=1):
        if (
            not secret.startswith(_PREFIX)
            or not _MIN_BYTES <= _decoded_size(secret.removeprefix(_PREFIX)) <= _MAX_BYTES
        ):
            raise ValueError(
                f"secret {position} must be {_PREFIX} and {_MIN_BYTES} to {_MAX_BYTES} bytes in base64; {HOW_TO_MAKE}"
            )
    return found


def read_secrets_file(value: str) -> tuple[str, ...]:
    """Return the secrets in a file, one on each line. Raise ValueError, which quotes nothing of it."""
    try:
        text = Path(value).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as exc:
        raise ValueError(f"{value!r} cannot be read: {_reason(exc)}") from None
    return parse_secrets(text.strip())


class Signer:
    """Signs with each of the secrets; without secrets the headers have no signature."""

    def __init__(self, keys: Sequence[str]) -> None:
        self._webhooks = tuple(Webhook(key) for key in keys)

    def headers(self, event_id: str, body: str) -> Mapping[str, str]:
        """Return the headers for a request that is sent now: id, timestamp and, with secrets, signature."""
        now = datetime.now(UTC)
        headers = {"webhook-id": event_id, "webhook-timestamp": str(int(now.timestamp()))}
        if self._webhooks:
            headers["webhook-signature"] = " ".join(webhook.sign(event_id, now, body) for webhook in self._webhooks)
        return headers


def _decoded_size(text: str) -> int:
    """Return the number of bytes that a base64 text encodes, padded or not; 0 if it is not base64."""
    try:
        return len(base64.b64decode(text.rstrip("=") + "=" * (-len(text.rstrip("=")) % 4), validate=True))
    except (binascii.Error, ValueError):
        return 0


def _reason(error: Exception) -> str:
    return error.strerror or "" if isinstance(error, OSError) else "it is not text"
