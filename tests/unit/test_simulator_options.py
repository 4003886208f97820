"""Options say which value is wrong and why."""

from typing import Any

import pytest

from callbacks.simulator.errors import InvalidOption
from callbacks.simulator.options import CampaignOptions, DeliveryOptions


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"destinations": 0}, "destinations=0: must lie between 1 and 1,000,000"),
        ({"replies": -1}, "replies=-1: must lie between 0 and 1,000,000"),
        ({"seen": 1.1}, "seen=1.1: must lie between 0 and 1"),
        ({"duplicates": float("nan")}, "duplicates=nan: must lie between 0 and 1"),
        ({"bundle": (3, 1)}, "bundle=3-1: must be MIN-MAX with 1 <= MIN <= MAX"),
        ({"bundle": (0, 1)}, "bundle=0-1: must be MIN-MAX with 1 <= MIN <= MAX"),
    ],
)
def test_a_campaign_that_cannot_be_is_refused(value: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidOption) as refusal:
        CampaignOptions(**value)
    assert str(refusal.value) == message


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"rate": -1}, "rate=-1: must be 0, or lie between 0.001 and 1,000,000"),
        ({"rate": float("inf")}, "rate=inf: must be 0, or lie between 0.001 and 1,000,000"),
        ({"connections": 0}, "connections=0: must lie between 1 and 10,000"),
        ({"retry_seconds": -0.1}, "retry_seconds=-0.1: must lie between 0 and 86,400"),
        ({"timeout_seconds": 0}, "timeout_seconds=0: must lie between 0.001 and 86,400"),
    ],
)
def test_a_sending_that_cannot_be_is_refused(value: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidOption) as refusal:
        DeliveryOptions(**value)
    assert str(refusal.value) == message


def test_the_defaults_are_the_gateway_s() -> None:
    options = DeliveryOptions()
    assert (options.retry_seconds, options.timeout_seconds, options.rate, options.connections) == (300, 30, 0, 8)
