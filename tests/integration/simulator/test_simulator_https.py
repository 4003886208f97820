"""HTTPS callbacks fail unless the certificate validates (specification, "SSL Support")."""

import asyncio
import ssl
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography import x509

from callbacks.simulator.campaign import plan
from callbacks.simulator.errors import InvalidOption
from callbacks.simulator.gateway import run
from callbacks.simulator.options import CampaignOptions, DeliveryOptions
from callbacks.simulator.receiver_urls import parse_urls
from callbacks.simulator.summary import RunSummary
from tests.certificates import self_signed
from tests.integration.simulator.receiver import always, receiving

CAMPAIGN = plan(CampaignOptions(destinations=3, replies=1), start_at=datetime(2015, 9, 25, tzinfo=UTC))


def send(pem: Path, *, ca: Path | None) -> RunSummary:
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(pem)
    with receiving(always(200), tls=tls) as receiver:
        options = DeliveryOptions(ca=ca, retry_seconds=0)
        return asyncio.run(run(CAMPAIGN, parse_urls(receiver.base), options=options))


def test_a_certificate_that_nobody_vouches_for_is_a_failure(tmp_path: Path) -> None:
    pem = self_signed(tmp_path)
    summary = send(pem, ca=None)
    assert summary.discarded == len(CAMPAIGN.callbacks)
    assert summary.failed_attempts == {"certificate": 3 * len(CAMPAIGN.callbacks)}


def test_a_certificate_named_as_trusted_is_accepted(tmp_path: Path) -> None:
    pem = self_signed(tmp_path)
    assert send(pem, ca=pem).acknowledged == len(CAMPAIGN.callbacks)


def test_a_certificate_of_another_name_is_a_failure(tmp_path: Path) -> None:
    pem = self_signed(tmp_path, names=[x509.DNSName("example.com")])
    assert set(send(pem, ca=pem).failed_attempts) == {"certificate"}


def test_an_expired_certificate_is_a_failure(tmp_path: Path) -> None:
    pem = self_signed(tmp_path, expired=True)
    assert set(send(pem, ca=pem).failed_attempts) == {"certificate"}


def test_https_to_a_receiver_of_plain_http_is_a_failure() -> None:
    with receiving(always(200)) as receiver:
        base = receiver.base.replace("http://", "https://")
        summary = asyncio.run(run(CAMPAIGN, parse_urls(base), options=DeliveryOptions(retry_seconds=0)))
    assert set(summary.failed_attempts) == {"TLS"}


def test_a_file_without_certificates_is_refused(tmp_path: Path) -> None:
    empty = tmp_path / "empty.pem"
    empty.touch()
    for path, reason in ((empty, "holds no certificate"), (tmp_path / "absent.pem", "cannot be read: No such file")):
        with pytest.raises(InvalidOption, match=reason):
            asyncio.run(run(CAMPAIGN, parse_urls("https://127.0.0.1/"), options=DeliveryOptions(ca=path)))
