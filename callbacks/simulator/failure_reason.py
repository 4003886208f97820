"""Says in a few words why an attempt failed, for people: `connection refused`, `404: unknown token or path`."""

import errno
import os
from http import HTTPStatus
from typing import Final

import aiohttp
import msgspec
from msgspec import Struct

# Of a title that a stranger wrote.
_MAX_CHARACTERS: Final = 80
# The first digit of a status.
_SUCCESS: Final = 2
_REDIRECT: Final = 3
_REFUSED: Final = os.strerror(errno.ECONNREFUSED)


class _ProblemDocument(Struct):
    """A problem document (RFC 9457)."""

    title: str


_decode = msgspec.json.Decoder(_ProblemDocument).decode


def of_exception(exc: Exception) -> str:
    """Return why there was no answer."""
    match exc:
        case TimeoutError():
            return "timeout"
        case aiohttp.ClientConnectorCertificateError():
            return "certificate"
        case aiohttp.ClientSSLError():
            return "TLS"
        case aiohttp.ClientConnectorDNSError():
            return "unknown host"
        case aiohttp.ClientConnectorError():
            return _of_os_error(exc.os_error)
        case aiohttp.ClientResponseError():
            return "not HTTP"
        case _:
            return "disconnected"


def of_status(status: int, answer: bytes) -> str:
    """Return why an answer other than 200 is a failure."""
    if status == HTTPStatus.NOT_FOUND:
        return "404: unknown token or path"
    if status // 100 == _SUCCESS:
        return f"{status}: only 200 is success"
    if status // 100 == _REDIRECT:
        return f"{status}: redirects are not followed"
    words = _title(answer) or _phrase(status)
    return f"{status}: {words[:1].lower()}{words[1:]}" if words else str(status)


def _of_os_error(error: OSError) -> str:
    # aiohttp's own text repeats the address. It has no number if the host's addresses failed in different ways.
    if error.errno is not None:
        return os.strerror(error.errno).lower()
    return _REFUSED.lower() if _REFUSED in str(error) else "unreachable"


def _title(answer: bytes) -> str:
    try:
        title = _decode(answer).title
    except (msgspec.DecodeError, UnicodeDecodeError):
        return ""
    return "".join(character for character in title if character.isprintable())[:_MAX_CHARACTERS]


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase.lower()
    except ValueError:
        return ""
