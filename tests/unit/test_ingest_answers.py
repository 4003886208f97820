"""The answers: each outcome's status, and what no answer shows."""

import orjson
import pytest

from ingest import answers
from ingest.answers import ACCEPTED, Answer, partly_quarantined, quarantined

EVERY = {
    "not-json": answers.not_json("byte 4", source="gateway"),
    "address-not-allowed": answers.address_not_allowed("192.0.2.1"),
    "not-found": answers.not_found(),
    "method-not-allowed": answers.method_not_allowed("GET", ("POST",)),
    "too-slow": answers.body_too_slow(10.0),
    "too-large": answers.body_too_large(1024),
    "head-too-large": answers.head_too_large(1024),
    "unsupported-media": answers.form_not_supported(),
    "store-unavailable": answers.store_unavailable(30),
    "overload": answers.overload(),
    "internal-error": answers.internal_error(),
}


def document(answer: Answer) -> object:
    return orjson.loads(answer.body["body"])


def header(answer: Answer, name: str) -> str | None:
    return {key.decode(): value.decode() for key, value in answer.start["headers"]}.get(name)


@pytest.mark.parametrize(
    ("name", "status"),
    [
        ("not-json", 400),
        ("address-not-allowed", 403),
        ("not-found", 404),
        ("method-not-allowed", 405),
        ("too-slow", 408),
        ("too-large", 413),
        ("head-too-large", 431),
        ("unsupported-media", 415),
        ("store-unavailable", 503),
        ("overload", 503),
        ("internal-error", 503),
    ],
)
def test_each_outcome_has_its_status_and_an_rfc_9457_document(name: str, status: int) -> None:
    answer = EVERY[name]
    problem = document(answer)
    assert isinstance(problem, dict)
    assert answer.status == answer.start["status"] == problem["status"] == status
    assert problem["type"] == f"urn:problem-type:callbacks:{name}"
    assert set(problem) == {"type", "title", "status", "detail"}
    assert header(answer, "content-type") == "application/problem+json"
    assert header(answer, "content-length") == str(len(answer.body["body"]))


@pytest.mark.parametrize("name", ["store-unavailable", "overload", "internal-error"])
def test_an_answer_after_which_a_retry_may_help_says_when(name: str) -> None:
    assert header(EVERY[name], "retry-after") == "30"


def test_every_503_has_retry_after() -> None:
    assert all(header(answer, "retry-after") for answer in EVERY.values() if answer.status == 503)


@pytest.mark.parametrize("name", sorted(EVERY))
def test_the_connection_ends_exactly_if_a_body_may_remain_on_it(name: str) -> None:
    assert (header(EVERY[name], "connection") == "close") == EVERY[name].body_unread


def test_an_answer_can_be_written_before_there_is_a_request() -> None:
    answer = EVERY["head-too-large"]
    head, _, body = (answer.status_line + answer.rest).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 431 Request Header Fields Too Large\r\n")
    assert b"connection: close" in head
    assert body == EVERY["head-too-large"].body["body"]


def test_405_says_what_is_allowed() -> None:
    assert header(answers.method_not_allowed("PUT", ("GET", "HEAD")), "allow") == "GET, HEAD"


def test_the_403_names_the_address() -> None:
    assert "192.0.2.1" in str(document(EVERY["address-not-allowed"]))


def test_an_unknown_token_and_an_unknown_path_look_alike() -> None:
    assert answers.not_found() == answers.not_found()


def test_the_answers_that_are_200() -> None:
    assert ACCEPTED.body["body"] == b'{"status":"accepted"}'
    assert document(quarantined("why: $.data[0].status")) == {
        "status": "quarantined",
        "error": "why: $.data[0].status",
    }
    assert document(partly_quarantined(2, "why")) == {"status": "accepted", "quarantined": 2, "error": "why"}
    assert {ACCEPTED.status, quarantined("").status, partly_quarantined(1, "").status} == {200}
