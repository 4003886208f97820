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
        {"opt_outs": True},
        {"opt_outs": False},
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
    for text in ("Stop", "start!", "Yes", None):
        assert read.wants(samples.reply(text)) is declaration_of(known).wants(samples.reply(text))
    assert read.name == "known"


@pytest.mark.parametrize(
    ("opt_outs", "texts"),
    [(None, ["STOP", "Start.", "Yes", None]), (True, ["STOP", "Start."]), (False, ["Yes", None])],
)
def test_opt_outs_says_which_replies_pass(opt_outs: bool | None, texts: list[str | None]) -> None:
    filters = Filters(name="known", kinds=frozenset(("report", "reply")), opt_outs=opt_outs)

    assert [text for text in ("STOP", "Start.", "Yes", None) if filters.wants(samples.reply(text))] == texts
    assert filters.wants(samples.report()), "it filters replies only"
