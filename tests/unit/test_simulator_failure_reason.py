"""Why an attempt failed is said in a few words."""

import errno

import aiohttp
import pytest
from aiohttp.client_reqrep import ConnectionKey

from callbacks.cli import simulate_failure
from callbacks.simulator import failure_reason
from ingest import answers

KEY = ConnectionKey("127.0.0.1", 1, False, True, None, None, None)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (OSError(errno.ECONNREFUSED, "Connect call failed"), "connection refused"),
        (OSError(errno.EHOSTUNREACH, ""), "no route to host"),
        (
            OSError("Multiple exceptions: [Errno 111] Connection refused, [Errno 99] Cannot assign"),
            "connection refused",
        ),
        (OSError("something else"), "unreachable"),
    ],
)
def test_a_connection_that_fails(error: OSError, reason: str) -> None:
    assert failure_reason.of_exception(aiohttp.ClientConnectorError(KEY, error)) == reason


def test_other_exceptions() -> None:
    assert failure_reason.of_exception(aiohttp.ClientConnectorDNSError(KEY, OSError(-2, "Name"))) == "unknown host"
    assert failure_reason.of_exception(TimeoutError()) == "timeout"
    assert failure_reason.of_exception(aiohttp.ServerDisconnectedError()) == "disconnected"


@pytest.mark.parametrize(
    ("status", "answer", "reason"),
    [
        (404, b"", "404: unknown token or path"),
        (404, b'{"title":"Not found"}', "404: unknown token or path"),
        (204, b"", "204: only 200 is success"),
        (302, b"", "302: redirects are not followed"),
        (502, b"<html>", "502: bad gateway"),
        (500, b'{"title": 7}', "500: internal server error"),
        (500, b"\xff\xfe", "500: internal server error"),
        (429, b'{"title":"Slow\\u001b[2Jdown"}', "429: slow[2Jdown"),
        (599, b"", "599"),
    ],
)
def test_a_status(status: int, answer: bytes, reason: str) -> None:
    assert failure_reason.of_status(status, answer) == reason


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (answers.address_not_allowed("10.0.0.1"), "403: address not allowed"),
        (answers.store_unavailable(30), "503: callback could not be stored"),
        (answers.overload(), "503: too many requests in progress"),
    ],
)
def test_the_service_s_own_answers_are_named_by_their_title(answer: answers.Answer, reason: str) -> None:
    assert failure_reason.of_status(answer.status, answer.body["body"]) == reason


@pytest.mark.parametrize(
    ("reason", "words"),
    [
        (failure_reason.of_status(403, b""), "CALLBACKS_ALLOWED_IPS"),
        (failure_reason.of_status(404, b""), "with the token"),
        ("connection refused", "`callbacks dev`"),
        ("something new", "log"),
    ],
)
def test_each_reason_has_an_advice(reason: str, words: str) -> None:
    assert words in simulate_failure.advice(reason)
