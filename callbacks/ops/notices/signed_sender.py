"""Posts a notice as JSON, signed as Standard Webhooks has it: for receivers that are programs."""

from collections.abc import Sequence
from typing import Final
from urllib.parse import urlsplit

import httpx
import msgspec

from callbacks.ops.notices.notice import Notice
from shared.errors import ConfigurationError
from workers.handlers.forward import signature

_SECRET_VARIABLE: Final = "CALLBACKS_NOTIFY_SECRET"  # noqa: S105 # a name
_TIMEOUT_SECONDS: Final = 10.0


class SignedSender:
    """Posts to `url`, which is http:// or https://."""

    max_notices = 1

    def __init__(self, url: str, secret: str) -> None:
        self._url = url
        self._signer = signature.Signer(_parse_secret(secret))
        _check(url)

    def send(self, notices: Sequence[Notice]) -> str:
        """Post the one notice; any answer from 200 to 299 means that it arrived."""
        (notice,) = notices
        body = msgspec.json.encode(notice.to_json_object()).decode()
        headers = {"content-type": "application/json", **self._signer.headers(notice.id, body)}
        try:
            # The answer's body is of no use, and may be long.
            with httpx.stream("POST", self._url, content=body, headers=headers, timeout=_TIMEOUT_SECONDS) as answer:
                return "" if answer.is_success else f"it answered {answer.status_code}"
        except httpx.HTTPError as exc:
            return type(exc).__name__  # its message may hold the URL


def _parse_secret(secret: str) -> tuple[str, ...]:
    try:
        found = signature.parse_secrets(secret)
    except ValueError as exc:
        raise ConfigurationError([f"{_SECRET_VARIABLE} {exc}"]) from None
    if not found:
        raise ConfigurationError([f"{_SECRET_VARIABLE} must hold a secret; a URL of json:// posts without a signature"])
    return found


def _check(url: str) -> None:
    try:
        parts = urlsplit(url)
        is_usable = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
        httpx.URL(url)
    except (ValueError, httpx.InvalidURL):
        is_usable = False
    if not is_usable:
        raise ValueError("must be webhook+https://HOST/PATH or webhook+http://HOST/PATH")
