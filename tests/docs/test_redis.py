"""docs/redis.md recommends only what CALLBACKS_DURABILITY may be."""

import re
from typing import get_args

from shared.setting_values import Durability
from tests.docs import pages


def test_each_service_of_its_table_has_a_level_or_is_said_to_be_unusable() -> None:
    rows = pages.rows(
        "docs/redis.md",
        "service",
        "append-only file",
        "CONFIG",
        "what an acknowledged write survives",
        "`CALLBACKS_DURABILITY`",
    )

    assert len(rows) > 10
    for service, *_, advice in rows:
        levels = set(re.findall(r"`(\w+)`", advice)) - {"INFO"}
        assert levels <= set(get_args(Durability)), service
        assert levels or advice.startswith("not usable"), service
