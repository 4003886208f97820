"""What the chaos suite stands on. `make chaos` runs it long; inside `make test` it runs short."""

import os

import pytest


@pytest.fixture
def chaos_seconds() -> float:
    """How long to go on breaking things."""
    return float(os.environ.get("CHAOS_SECONDS", "6"))


@pytest.fixture
def chaos_seed() -> int:
    """Decides what is broken when; printed, so that a run can be repeated nearly."""
    return int(os.environ.get("CHAOS_SEED", "20260101"))
