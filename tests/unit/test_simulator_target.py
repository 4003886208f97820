"""The receiver's URLs, and how little of them is ever redacted_url."""

from typing import get_args

import pytest

from callbacks.simulator.callback import UrlForm
from callbacks.simulator.errors import InvalidOption
from callbacks.simulator.receiver_urls import parse_urls, redact_url


def test_reports_and_replies_go_below_the_base() -> None:
    where = parse_urls("http://127.0.0.1:8080/callbacks/tok%2Fen/")
    assert str(where.url("status")) == "http://127.0.0.1:8080/callbacks/tok%2Fen/status"
    assert str(where.url("reply")) == "http://127.0.0.1:8080/callbacks/tok%2Fen/reply"


def test_a_single_url_gets_both() -> None:
    where = parse_urls("https://example.com/callbacks/token?a=b", single_url=True)
    assert str(where.url("status")) == str(where.url("reply")) == "https://example.com/callbacks/token?a=b"


def test_a_query_stays_behind_the_path() -> None:
    assert str(parse_urls("https://example.com/hook?key=1").url("reply")) == "https://example.com/hook/reply?key=1"


@pytest.mark.parametrize(
    ("form", "path", "single_path"),
    [
        ("own", "/callbacks/token/status", "/callbacks/token"),
        ("other kind", "/callbacks/token/reply", "/callbacks/token"),
        ("no kind", "/callbacks/token", "/callbacks/token"),
        ("trailing slash", "/callbacks/token/status/", "/callbacks/token/"),
        ("doubled slash", "/callbacks/token//status", "/callbacks//token"),
    ],
)
def test_a_url_is_written_in_other_forms(form: UrlForm, path: str, single_path: str) -> None:
    base = "https://example.com/callbacks/token?a=b"
    assert str(parse_urls(base).url("status", form)) == f"https://example.com{path}?a=b"
    assert str(parse_urls(base, single_url=True).url("status", form)) == f"https://example.com{single_path}?a=b"


def test_a_url_without_a_path_has_no_other_form() -> None:
    where = parse_urls("https://example.com/", single_url=True)
    assert {str(where.url("status", form)) for form in get_args(UrlForm)} == {"https://example.com/"}


@pytest.mark.parametrize(
    ("url", "redacted_url"),
    [
        ("http://127.0.0.1:8080/callbacks/s3cr3t", "http://127.0.0.1:8080/callbacks/…"),
        ("http://127.0.0.1:8080/callbacks/s3cr3t/status", "http://127.0.0.1:8080/callbacks/…/status"),
        ("https://me:s3cr3t@example.com/x?token=s3cr3t", "https://…@example.com/x?…"),
        ("127.0.0.1:8080/callbacks/s3cr3t", "127.0.0.1:8080/callbacks/…"),
    ],
)
def test_secrets_are_masked(url: str, redacted_url: str) -> None:
    assert redact_url(url) == redacted_url


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("127.0.0.1:8080/callbacks/s3cr3t", "must begin with http:// or https:// and name a host"),
        ("ftp://127.0.0.1/callbacks/s3cr3t", "must begin with http:// or https:// and name a host"),
        ("http:///callbacks/s3cr3t", "must begin with http:// or https:// and name a host"),
        ("http://[::1/callbacks/s3cr3t", "is not a URL"),
        ("http://127.0.0.1:99999/callbacks/s3cr3t", "is not a URL"),
        ("http://127.0.0.1/callbacks/s3cr3t#top", "must not have a fragment (#…)"),
        (
            "http://127.0.0.1/callbacks/s3cr3t/reply",
            "must be the base URL without /status or /reply: remove it, or use --single-url",
        ),
    ],
)
def test_a_url_that_cannot_be_posted_to_is_refused_without_its_secret(url: str, reason: str) -> None:
    with pytest.raises(InvalidOption) as refusal:
        parse_urls(url)
    assert refusal.value.reason == reason
    assert "s3cr3t" not in str(refusal.value)


def test_the_repr_shows_no_secret() -> None:
    assert "s3cr3t" not in repr(parse_urls("http://127.0.0.1/callbacks/s3cr3t"))
