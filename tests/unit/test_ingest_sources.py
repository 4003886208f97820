"""Which addresses may post, whose X-Forwarded-For is believed, and which source a token identifies."""

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.sources import _MAX_PROXIES, AddressDecision, AddressRules, Tokens, parse_address
from shared.setting_values import Network, Token
from shared.settings import load

GATEWAY = "80.252.167.60"


def rules(allowed: str = GATEWAY, trusted: str = "") -> AddressRules:
    settings = load({"CALLBACKS_ALLOWED_IPS": allowed, "CALLBACKS_TRUSTED_PROXIES": trusted})
    return AddressRules(allowed=settings.allowed_ips, trusted=settings.trusted_proxies)


@pytest.mark.parametrize(
    ("allowed", "peer"),
    [
        (GATEWAY, GATEWAY),
        (GATEWAY, f"::ffff:{GATEWAY}"),
        ("::ffff:80.252.167.60", GATEWAY),
        ("::ffff:80.252.167.0/120", GATEWAY),
        ("80.252.167.0/24", GATEWAY),
        ("10.0.0.1, 80.252.167.60", GATEWAY),
        ("2001:db8::1", "2001:db8:0:0::1"),
        ("2001:db8::/32", "2001:db8:ffff::7"),
        ("fe80::/10", "fe80::1%eth0"),
        ("*", GATEWAY),
        ("*", "2001:db8::1"),
    ],
)
def test_an_allowed_address_may_post(allowed: str, peer: str) -> None:
    assert rules(allowed).decide(peer).allowed


@pytest.mark.parametrize(
    ("allowed", "peer"),
    [
        (GATEWAY, "80.252.167.61"),
        (GATEWAY, "::ffff:80.252.167.61"),
        (GATEWAY, f"::{GATEWAY}"),
        ("80.252.167.0/24", "80.252.168.1"),
        ("2001:db8::/32", "2001:db9::1"),
        ("::/0", GATEWAY),
        ("0.0.0.0/0", "2001:db8::1"),
        (GATEWAY, "testclient"),
        (GATEWAY, ""),
    ],
)
def test_another_address_may_not(allowed: str, peer: str) -> None:
    assert not rules(allowed).decide(peer).allowed


def test_the_decision_names_the_address_as_it_was_read() -> None:
    assert rules().decide("::ffff:10.1.2.3") == AddressDecision(allowed=False, label="10.1.2.3")


def test_a_connection_without_an_address_may_post_only_if_any_address_may() -> None:
    assert rules("*").decide(None).allowed
    assert not rules("0.0.0.0/0").decide(None).allowed
    assert not rules(GATEWAY, "*").decide(None, [GATEWAY.encode()]).allowed


def test_x_forwarded_for_is_never_believed_from_a_stranger() -> None:
    assert not rules(trusted="10.0.0.0/8").decide("192.0.2.1", [GATEWAY.encode()]).allowed


def test_x_forwarded_for_of_the_gateway_itself_is_ignored() -> None:
    assert rules(trusted="10.0.0.0/8").decide(GATEWAY, [b"192.0.2.1"]).allowed


@pytest.mark.parametrize(
    "forwarded",
    [
        [b"80.252.167.60"],
        [b" 80.252.167.60 "],
        [b"80.252.167.60:41234"],
        [b"::ffff:80.252.167.60"],
        [b"[::ffff:80.252.167.60]:80"],
        [b"1.2.3.4, 80.252.167.60"],
        [b"rubbish, 80.252.167.60"],
        [b"80.252.167.60, 10.0.0.7"],
        [b"80.252.167.60", b"10.0.0.7,10.0.0.8"],
        [b"rubbish", b"80.252.167.60", b"10.0.0.7"],
    ],
)
def test_from_a_trusted_proxy_the_first_untrusted_from_the_right_is_the_client(forwarded: list[bytes]) -> None:
    assert rules(trusted="10.0.0.0/8").decide("10.0.0.1", forwarded).allowed


@pytest.mark.parametrize(
    "forwarded",
    [
        [b"80.252.167.60, 192.0.2.1"],
        [b"80.252.167.60", b"192.0.2.1"],
        [b"80.252.167.60, 192.0.2.1, 10.0.0.7"],
        [b"80.252.167.60, rubbish"],
        [b"80.252.167.60, unknown, 10.0.0.7"],
        [b"80.252.167.60,"],
        [b"80.252.167.60:"],
        [b"80.252.167.60:66000"],
        [b"80.252.167.60:-1"],
        [b"80.252.167.60 x"],
        [b"80.252.167.060"],
        [b'"80.252.167.60"'],
        [b"[80.252.167.60]"],
        [b""],
        ["٨٠.252.167.60".encode()],
        [b"1" * 10_000],
    ],
)
def test_entries_further_left_and_unreadable_entries_do_not_help_a_stranger(forwarded: list[bytes]) -> None:
    assert not rules(trusted="10.0.0.0/8").decide("10.0.0.1", forwarded).allowed


def test_when_all_are_trusted_the_leftmost_is_the_client() -> None:
    assert rules("10.0.0.9", "10.0.0.0/8").decide("10.0.0.1", [b"10.0.0.9, 10.0.0.7"]).allowed
    assert not rules("10.0.0.7", "10.0.0.0/8").decide("10.0.0.1", [b"10.0.0.9, 10.0.0.7"]).allowed


def test_a_trusted_proxy_without_the_header_is_itself_the_client() -> None:
    assert not rules(trusted="10.0.0.0/8").decide("10.0.0.1").allowed
    assert rules("10.0.0.1", "10.0.0.0/8").decide("10.0.0.1").allowed


addresses = st.ip_addresses()


@st.composite
def entries(draw: st.DrawFn) -> tuple[str, ipaddress.IPv4Address | ipaddress.IPv6Address]:
    """Return an address, and one of the notations in which a proxy may write it."""
    address = draw(addresses)
    port = draw(st.none() | st.integers(0, 65535))
    space = draw(st.sampled_from(["", " ", "\t "]))
    text = draw(st.sampled_from([str(address), address.exploded]))
    if isinstance(address, ipaddress.IPv4Address):
        text = draw(st.sampled_from([text, f"[::ffff:{text}]" if port is not None else f"::ffff:{text}"]))
    elif port is not None:
        text = f"[{text}]"
    mapped = getattr(address, "ipv4_mapped", None)
    return space + text + ("" if port is None else f":{port}") + space, mapped or address


@given(entries())
def test_every_notation_of_an_address_is_read(
    entry: tuple[str, ipaddress.IPv4Address | ipaddress.IPv6Address],
) -> None:
    written, meant = entry
    assert parse_address(written) == meant


@given(st.text() | st.text(alphabet="0123456789.:[]%abcdef, "))
def test_no_entry_raises(entry: str) -> None:
    parse_address(entry)


@given(st.lists(st.binary()), st.text())
def test_no_header_makes_a_stranger_the_gateway(forwarded: list[bytes], peer: str) -> None:
    rules(trusted="10.0.0.1").decide("10.0.0.1", forwarded)
    assert not rules(trusted="10.0.0.1").decide("192.0.2.1", forwarded).allowed
    rules().decide(peer, forwarded)


@given(
    st.lists(entries(), min_size=1, max_size=_MAX_PROXIES - 1),
    addresses,
    st.lists(st.sampled_from(["junk", "1.2.3", ""])),
)
def test_entries_to_the_left_of_the_client_change_nothing(
    chain: list[tuple[str, ipaddress.IPv4Address | ipaddress.IPv6Address]],
    client: ipaddress.IPv4Address | ipaddress.IPv6Address,
    junk: list[str],
) -> None:
    client = getattr(client, "ipv4_mapped", None) or client
    proxies: list[Network] = [ipaddress.ip_network(meant) for _, meant in chain if meant != client]
    judged = AddressRules(allowed=[ipaddress.ip_network(client)], trusted=[*proxies, ipaddress.ip_network("10.0.0.1")])
    if client == ipaddress.ip_address("10.0.0.1"):
        return
    written = [*junk, str(client), *(text for text, meant in chain if meant != client)]
    assert judged.decide("10.0.0.1", [",".join(written).encode()]) == AddressDecision(allowed=True, label=str(client))


def test_a_token_identifies_its_source() -> None:
    tokens = Tokens([Token("old", "s1"), Token("new", "s2"), Token("third", "é€")])
    assert [tokens.source(given) for given in ("s1", "s2", "é€")] == ["old", "new", "third"]


@pytest.mark.parametrize("given", ["", "s", "s11", "S1", "s1 ", "s1\n", "s1\0", "é", "\ud800", "old", "old=s1"])
def test_any_other_text_is_not_a_token(given: str) -> None:
    assert Tokens([Token("old", "s1")]).source(given) is None


def test_without_tokens_no_text_is_one() -> None:
    assert Tokens([]).source("") is None
