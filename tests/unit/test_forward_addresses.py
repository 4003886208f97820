"""Which addresses are of the public internet."""

import pytest

from workers.handlers.forward.addresses import is_public

NOT_PUBLIC = {
    "loopback": ("127.0.0.1", "127.255.255.254", "::1"),
    "private": ("10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.0.1", "fc00::1", "fd12:3456::1"),
    "link-local": ("169.254.0.1", "fe80::1", "fe80::1%eth0", "febf::1"),
    "metadata": ("169.254.169.254", "fd00:ec2::254", "100.100.100.200", "192.0.0.192", "168.63.129.16"),
    "shared": ("100.64.0.1", "100.127.255.255"),
    "multicast": ("224.0.0.1", "239.255.255.255", "ff02::1", "ff0e::1"),
    "unspecified": ("0.0.0.0", "::"),
    "this network": ("0.1.2.3",),
    "reserved": ("240.0.0.1", "255.255.255.255", "4000::1", "5f00::1"),
    "examples": ("192.0.2.1", "198.51.100.1", "203.0.113.1", "2001:db8::1", "3fff::1"),
    "measurement": ("198.18.0.1", "198.19.255.255"),
    "IPv4 in IPv6": ("::ffff:127.0.0.1", "::ffff:8.8.8.8", "::8.8.8.8", "::127.0.0.1"),
    "NAT64": ("64:ff9b::7f00:1", "64:ff9b::a00:1", "64:ff9b::a9fe:a9fe", "64:ff9b:1::808:808"),
    "6to4": ("2002:7f00:1::1", "2002:808:808::1", "192.88.99.1"),
    "Teredo": ("2001::1", "2001:0:4136:e378::1"),
    "site-local": ("fec0::1",),
    "discard": ("100::1",),
}


@pytest.mark.parametrize("address", [one for some in NOT_PUBLIC.values() for one in some])
def test_what_is_not_public_is_known(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize(
    "address",
    [
        *("8.8.8.8", "93.184.215.14", "172.32.0.1", "100.128.0.1", "168.63.129.17", "2606:4700::1111", "2a00::1"),
        "64:ff9b::808:808",  # 8.8.8.8, as a network with IPv6 alone reaches it
    ],
)
def test_what_is_public_is_known(address: str) -> None:
    assert is_public(address)
