"""Makes one attempt: a POST as the gateway sends it, and how it ended.

Only HTTP 200 is a success. Redirects are not followed, the response's body decides nothing, and certificates are
verified (specification, "Callback response by client", "SSL Support").
"""

import ssl
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

import aiohttp
from yarl import URL

from callbacks.simulator import failure_reason
from callbacks.simulator.delivery import ACKNOWLEDGED, Attempt
from callbacks.simulator.errors import InvalidOption
from callbacks.simulator.options import DeliveryOptions

_HEADERS = {"User-Agent": "callbacks-simulator"}
# The headers that describe the body come from its callback.
_SKIPPED_HEADERS = ("Accept", "Accept-Encoding", "Content-Type")
# Shorter than the 5 s after which uvicorn closes an idle connection, so that no POST uses a closing one.
_KEEP_ALIVE_SECONDS = 4.0
# A response's body is read only to use the connection again; beyond this size a new connection is cheaper.
_ANSWER_BYTES = 65_536


def open_session(options: DeliveryOptions) -> aiohttp.ClientSession:
    """Return a session with `options.connections` connections; needs a running loop.

    Raise InvalidOption("ca", …) if the file cannot be read or has no certificate.
    """
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(
            limit=options.connections,
            ssl=_tls(options.ca),
            keepalive_timeout=_KEEP_ALIVE_SECONDS,
        ),
        timeout=aiohttp.ClientTimeout(total=options.timeout_seconds),
        headers=_HEADERS,
        skip_auto_headers=_SKIPPED_HEADERS,
        cookie_jar=aiohttp.DummyCookieJar(),
        # The body is ignored, so a badly compressed one must not turn a 200 into a failure.
        auto_decompress=False,
    )


async def post(
    session: aiohttp.ClientSession, url: URL, body: bytes, headers: Mapping[str, str]
) -> tuple[Attempt, bytes]:
    """Send `body` once; return how that ended, and the beginning of the answer's body.

    Errors of the receiver or the network are not raised.
    """
    status: int | None = None
    reason: str | None = None
    answer = bytearray()
    started = time.perf_counter()
    ended = started
    try:
        async with session.post(url, data=body, headers=headers, allow_redirects=False) as response:
            ended = time.perf_counter()
            status = response.status
            await _read_body(response, answer)
    except (aiohttp.ClientError, TimeoutError) as exc:
        if status is None:
            ended = time.perf_counter()
            reason = failure_reason.of_exception(exc)
    if status is not None and status != ACKNOWLEDGED:
        reason = failure_reason.of_status(status, bytes(answer))
    return Attempt(datetime.now(UTC), round((ended - started) * 1000, 3), status, reason), bytes(answer)


def _tls(ca: Path | None) -> ssl.SSLContext:
    context = ssl.create_default_context()
    if ca is not None:
        try:
            context.load_verify_locations(cafile=ca)
        except ssl.SSLError as exc:
            raise InvalidOption("ca", ca, "holds no certificate in PEM form") from exc
        except OSError as exc:
            raise InvalidOption("ca", ca, f"cannot be read: {exc.strerror}") from exc
    return context


async def _read_body(response: aiohttp.ClientResponse, answer: bytearray) -> None:
    while not response.content.at_eof():
        answer += await response.content.readany()
        if len(answer) > _ANSWER_BYTES:
            response.close()
            return
