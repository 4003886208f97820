"""Which addresses are connected to, that they are the checked ones, and which certificates are trusted."""

import asyncio
import ssl
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import httpcore
import pytest
from cryptography import x509

from callbacks import Pause, Retry, samples
from tests.certificates import HERE, self_signed
from tests.integration.forward.services import DELIVERED, says, sent, serving, target
from workers.handlers.forward.addresses import PinnedBackend, Resolve
from workers.handlers.forward.sender import Sender

PUBLIC = "93.184.215.14"


def answering(*answers: list[str]) -> tuple[Resolve, list[str]]:
    """Return a resolver that uses `answers` in turn, and the list of hosts that it resolved."""
    hosts: list[str] = []

    async def resolve(host: str, _port: int) -> list[str]:
        hosts.append(host)
        return answers[min(len(hosts), len(answers)) - 1]

    return resolve, hosts


class Diverted(httpcore.AsyncNetworkBackend):
    """Records which addresses are connected to, and connects to the loopback instead."""

    def __init__(self) -> None:
        self.addresses: list[str] = []

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109 # httpcore's interface
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        self.addresses.append(host)
        return await httpcore.AnyIOBackend().connect_tcp("127.0.0.1", port, timeout=timeout)


def test_a_host_is_resolved_once_for_a_connection_so_that_it_cannot_change_in_between() -> None:
    resolve, hosts = answering([PUBLIC], ["127.0.0.1"])
    network = Diverted()
    with serving(says(200, headers={"Connection": "close"})) as service:
        url = service.url.replace("127.0.0.1", "rebinding.example")
        to = target(url, ALLOW_PRIVATE="false")
        backend = PinnedBackend(allow_private=to.allow_private, resolve=resolve, network=network)

        found = sent(Sender(to, network=backend), samples.report(), samples.report())

    assert found[0] == DELIVERED
    assert isinstance(found[1], Pause), "the second connection resolved the host again and checked the address"
    assert "rebinding.example is at 127.0.0.1, which is not a public address" in found[1].reason
    assert network.addresses == [PUBLIC]
    assert hosts == ["rebinding.example"] * 2
    assert [request.headers["host"] for request in service.requests] == [url.split("/")[2]]


def test_of_several_addresses_only_public_ones_are_tried() -> None:
    resolve, _ = answering(["10.0.0.1", "::1", PUBLIC])
    network = Diverted()
    with serving(says(200)) as service:
        to = target(service.url.replace("127.0.0.1", "mixed.example"), ALLOW_PRIVATE="false")

        assert sent(
            Sender(to, network=PinnedBackend(allow_private=False, resolve=resolve, network=network)), samples.report()
        ) == [DELIVERED]

    assert network.addresses == [PUBLIC]


def test_a_host_with_no_allowed_address_loses_no_event_and_no_attempt() -> None:
    resolve, _ = answering(["169.254.169.254"])
    to = target("http://metadata.example/", ALLOW_PRIVATE="false")

    found = sent(
        Sender(to, network=PinnedBackend(allow_private=False, resolve=resolve)), *(samples.report() for _ in range(7))
    )

    assert [type(one) for one in found] == [Pause] * 7
    assert [one.after_seconds for one in found if isinstance(one, Pause)] == [60.0] * 7


@pytest.mark.parametrize("host", ["2130706433", "0x7f.1", "127.1", "017700000001", "localhost."])
def test_an_unusual_spelling_of_an_address_is_checked_too(host: str) -> None:
    with serving(says(200)) as service:
        to = target(service.url.replace("127.0.0.1", host), ALLOW_PRIVATE="false")

        (found,) = sent(to, samples.report())

    assert not service.connections
    assert isinstance(found, Pause | Retry)


def test_the_next_address_is_tried_if_one_does_not_answer() -> None:
    resolve, _ = answering(["127.99.99.99", "127.0.0.1"])
    with serving(says(200)) as service:
        to = target(service.url.replace("127.0.0.1", "two.example"))

        assert sent(Sender(to, network=PinnedBackend(allow_private=True, resolve=resolve)), samples.report()) == [
            DELIVERED
        ]


def test_a_resolver_that_never_answers_has_the_time_out_for_connecting(monkeypatch: pytest.MonkeyPatch) -> None:
    async def resolve(_host: str, _port: int) -> list[str]:
        await asyncio.Event().wait()
        return []

    monkeypatch.setattr("workers.handlers.forward.sender.CONNECT_SECONDS", 0.05)
    to = target("http://slow.example/")

    (found,) = sent(Sender(to, network=PinnedBackend(allow_private=True, resolve=resolve)), samples.report())

    assert isinstance(found, Retry)
    assert "slow.example was not resolved in time" in found.reason


def secure(folder: Path, **options: Any) -> tuple[Path, ssl.SSLContext, list[str | None]]:
    """Return the path of a certificate, a server's context with it, and the list of names that clients ask for."""
    path = self_signed(folder, **options)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path)
    hosts: list[str | None] = []
    context.sni_callback = lambda _socket, name, _context: hosts.append(name)
    return path, context, hosts


def test_the_file_of_certificates_that_is_set_is_trusted(tmp_path: Path) -> None:
    path, tls, _ = secure(tmp_path)
    with serving(says(200), tls=tls) as service:
        assert sent(target(service.url, CA=str(path)), samples.report(), samples.report()) == [DELIVERED, DELIVERED]

    assert service.connections == 1


def test_tls_uses_the_name_and_not_the_address(tmp_path: Path) -> None:
    path, tls, hosts = secure(tmp_path, names=[x509.DNSName("receiver.example")])
    resolve, _ = answering(["127.0.0.1"])
    with serving(says(200), tls=tls) as service:
        to = target(service.url.replace("127.0.0.1", "receiver.example"), CA=str(path))

        assert sent(Sender(to, network=PinnedBackend(allow_private=True, resolve=resolve)), samples.report()) == [
            DELIVERED
        ]

    assert hosts == ["receiver.example"]
    assert service.requests[0].headers["host"].startswith("receiver.example:")


@pytest.mark.parametrize(
    ("options", "named"),
    [
        pytest.param({"names": [HERE]}, False, id="an unknown authority"),
        pytest.param({"names": [x509.DNSName("other.example")]}, True, id="another's name"),
        pytest.param({"names": [HERE], "expired": True}, True, id="expired"),
    ],
)
def test_with_a_wrong_certificate_nothing_is_sent(options: dict[str, Any], named: bool, tmp_path: Path) -> None:
    path, tls, _ = secure(tmp_path, **options)
    with serving(says(200), tls=tls) as service:
        (found,) = sent(target(service.url, **({"CA": str(path)} if named else {})), samples.report())

    assert isinstance(found, Retry)
    assert "certificate verify failed" in found.reason.lower()
    assert service.requests == []


def test_certificates_named_by_the_environment_are_not_trusted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, tls, _ = secure(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(path))
    with serving(says(200), tls=tls) as service:
        (found,) = sent(target(service.url), samples.report())

    assert isinstance(found, Retry)


def test_a_port_without_tls_is_retried() -> None:
    with serving(says(200)) as service:
        (found,) = sent(target(service.url.replace("http:", "https:")), samples.report())

    assert isinstance(found, Retry)
    assert service.requests == []
