"""Clients that pretend to be behind a proxy, to have another address, or guess tokens."""

import sys
from types import FrameType
from typing import Any

import pytest

from ingest.sources import AddressRules, Tokens
from shared.setting_values import Token
from shared.settings import load

GATEWAY = "80.252.167.60"
PROXY = "10.0.0.1"


def rules(allowed: str = GATEWAY, trusted: str = PROXY) -> AddressRules:
    settings = load({"CALLBACKS_ALLOWED_IPS": allowed, "CALLBACKS_TRUSTED_PROXIES": trusted})
    return AddressRules(allowed=settings.allowed_ips, trusted=settings.trusted_proxies)


@pytest.mark.parametrize(
    "pretended",
    [
        [b"80.252.167.60, unknown"],
        [b"80.252.167.60, _hidden"],
        [b"80.252.167.60, _hidden:_port"],
        [b"unknown"],
        [b'for="80.252.167.60"'],
        [b"for=80.252.167.60"],
        [b"80.252.167.60 192.0.2.1"],
        [b"80.252.167.60;192.0.2.1"],
        [b"80.252.167.60\t,\t192.0.2.1"],
        [b"80.252.167.60", b"", b"192.0.2.1"],
        [b"80.252.167.60", b""],
        [b"80.252.167.60", b",,,"],
        [b"80.252.167.60, [2001:db8::1]:443"],
        [b"80.252.167.60, 2001:db8::1"],
        [b"80.252.167.60, ::ffff:192.0.2.1"],
        [b"80.252.167.60, ::80.252.167.60"],
        [b"80.252.167.60, 64:ff9b::80.252.167.60"],
        [b"80.252.167.60, ::ffff:0:80.252.167.60"],
        [b"0x50.252.167.60"],
        [b"1358735164"],
        [b"80.252.42812"],
        [b"\xa080.252.167.60"],
        [b"80.252.167.60\0"],
        [b"80.252.167.60%eth0"],
        [b"[::ffff:80.252.167.60"],
        [b"[::ffff:80.252.167.60]443"],
        [b"80.252.167.60," * 1000 + b"192.0.2.1"],
        [b"80.252.167.60"] * 1000 + [b"192.0.2.1"],
        [b"," * 60_000],
    ],
)
def test_behind_a_trusted_proxy_only_what_the_proxy_itself_has_written_counts(pretended: list[bytes]) -> None:
    assert not rules().decide(PROXY, pretended).allowed


def test_a_thousand_entries_to_the_left_of_the_gateway_are_not_even_read() -> None:
    read = 0

    def count(_frame: FrameType, event: str, _what: Any) -> None:
        nonlocal read
        read += event == "call" and _frame.f_code.co_name == "parse_address"

    judge = rules()
    judge.decide(PROXY)  # the address of the peer is read once, and cached
    sys.setprofile(count)
    try:
        decision = judge.decide(PROXY, [b"rubbish," * 1000 + b"80.252.167.60"])
    finally:
        sys.setprofile(None)
    assert decision.allowed
    assert read == 1


def test_the_number_of_trusted_proxies_in_a_row_is_limited() -> None:
    everybody = rules(trusted="*")
    assert everybody.decide(PROXY, [b"80.252.167.60" + b",10.0.0.1" * 32]).allowed
    assert not everybody.decide(PROXY, [b"80.252.167.60" + b",10.0.0.1" * 33]).allowed


@pytest.mark.parametrize("trusted", [PROXY, f"::ffff:{PROXY}", "10.0.0.0/8", "::ffff:10.0.0.0/104"])
@pytest.mark.parametrize("peer", [PROXY, f"::ffff:{PROXY}", "::ffff:a00:1"])
@pytest.mark.parametrize("allowed", [GATEWAY, f"::ffff:{GATEWAY}", "::ffff:50fc:a73c", "::ffff:80.252.167.0/120"])
@pytest.mark.parametrize("entry", [GATEWAY, f"::ffff:{GATEWAY}", "[::FFFF:50FC:A73C]:443"])
def test_an_ipv4_address_is_the_same_in_every_notation(trusted: str, peer: str, allowed: str, entry: str) -> None:
    assert rules(allowed, trusted).decide(peer, [entry.encode()]).allowed
    assert not rules(allowed, trusted).decide(peer, [entry.encode() + b", 192.0.2.1"]).allowed


SECRETS = ("first-secret", "second-secret-that-is-longer", "x")
NEAR = [secret[:length] for secret in SECRETS for length in range(len(secret))] + [
    f"{secret}{secret}" for secret in SECRETS
]


@pytest.mark.parametrize("given", [*SECRETS, *NEAR, "a" * 300, "é", "\ud800", "\0"])
def test_every_token_is_compared_to_its_end(given: str) -> None:
    compared: list[str] = []

    def watch(_frame: FrameType, event: str, what: Any) -> None:
        if event == "c_call":
            compared.append(what.__name__)

    tokens = Tokens(Token(f"name{number}", secret) for number, secret in enumerate(SECRETS))
    sys.setprofile(watch)
    try:
        found = tokens.source(given)
    finally:
        sys.setprofile(None)
    assert compared == ["encode", *["compare_digest"] * len(SECRETS), "setprofile"]
    assert found == (f"name{SECRETS.index(given)}" if given in SECRETS else None)
