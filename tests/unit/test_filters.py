"""A handler's filters are all that has to be known of it to hand it its events, and can be written down."""

from typing import Any

import msgspec
import pytest

from callbacks import ReplyEvent, ReportEvent, handler, samples
from tests.integration.harness import declaration_of
from workers.filters import Filters, from_handler


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"statuses": {"UNDELIV", "REJECTD"}},
        {"channels": {"SMS"}},
        {"sources": {"gw"}},
        {"final": False},
    ],
)
def test_written_down_they_let_the_same_events_pass(options: dict[str, Any]) -> None:
    @handler(ReportEvent, ReplyEvent, **options)
    def known(event: object) -> None: ...

    written = msgspec.json.encode(from_handler(declaration_of(known)))
    read = msgspec.json.decode(written, type=Filters)

    for name in samples.NAMES:
        event = samples.one(name)
        assert read.wants(event) is declaration_of(known).wants(event)
    assert read.name == "known"
