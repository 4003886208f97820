"""Why a handler's filters leave out an event: the words agree with the filters."""

from typing import Any

import pytest

from callbacks import Event, ReplyEvent, ReportEvent, handler, samples
from tests.integration.harness import declaration_of
from workers.admin import filter_explanation

FILTERS: list[dict[str, Any]] = [
    {},
    {"statuses": {"UNDELIV", "REJECTD"}},
    {"channels": {"SMS"}},
    {"sources": {"main"}},
    {"final": True},
    {"final": False},
    {"opt_outs": True},
    {"opt_outs": False},
    {"statuses": {"DELIVRD"}, "channels": {"VIBER"}, "sources": {"samples"}, "final": True},
]


@pytest.mark.parametrize("filters", FILTERS)
@pytest.mark.parametrize("kinds", [(ReportEvent,), (ReplyEvent,), (ReportEvent, ReplyEvent)])
def test_there_is_a_reason_exactly_for_events_that_do_not_match(
    kinds: tuple[Any, ...], filters: dict[str, Any]
) -> None:
    if ReportEvent not in kinds:
        filters = {name: value for name, value in filters.items() if name not in ("statuses", "final")}

    if ReplyEvent not in kinds:
        filters = {name: value for name, value in filters.items() if name != "opt_outs"}

    @handler(*kinds, **filters)
    def some(event: Event) -> None:
        """Take some."""

    for event in (*samples.named().values(), samples.reply("Stop")):
        assert (not list(filter_explanation.explain(declaration_of(some), event))) == declaration_of(some).wants(event)


def test_the_reason_names_the_filter_and_the_value() -> None:
    @handler(ReportEvent, statuses={"UNDELIV", "REJECTD"}, channels={"SMS"}, sources={"main"}, final=False)
    def some(event: ReportEvent) -> None:
        """Take some."""

    lines = list(filter_explanation.explain(declaration_of(some), samples.report("DELIVRD", "VIBER", source="other")))
    assert lines == [
        "it takes channels={'SMS'}, and this came by 'VIBER'",
        "it takes sources={'main'}, and this is from 'other'",
        "it takes statuses={'REJECTD', 'UNDELIV'}, and this is 'DELIVRD'",
        "it takes final=False, reports that are not final, and this one is final",
    ]
    assert list(filter_explanation.explain(declaration_of(some), samples.reply())) == [
        "it takes reports, and this is a reply"
    ]
    assert list(filter_explanation.describe_filters(declaration_of(some))) == [
        "statuses={'REJECTD', 'UNDELIV'}",
        "channels={'SMS'}",
        "sources={'main'}",
        "final=False",
    ]


@pytest.mark.parametrize(
    ("wanted", "text", "reason"),
    [
        (
            True,
            "Yes",
            "it takes opt_outs=True, replies that are STOP, START or another such keyword, and this one is not one",
        ),
        (
            False,
            "Stop",
            "it takes opt_outs=False, replies that are not STOP, START or another such keyword, and this one is one",
        ),
    ],
)
def test_the_reason_says_whether_a_reply_is_a_keyword(wanted: bool, text: str, reason: str) -> None:
    @handler(ReplyEvent, opt_outs=wanted)
    def some(event: ReplyEvent) -> None:
        """Take some."""

    assert list(filter_explanation.explain(declaration_of(some), samples.reply(text))) == [reason]
    assert list(filter_explanation.describe_filters(declaration_of(some))) == [f"opt_outs={wanted}"]
