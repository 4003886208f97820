"""Declaring a handler: what the decorator takes, what it refuses at once, and what it leaves alone."""

import functools
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

import callbacks
from callbacks import Event, Reject, ReplyEvent, ReportEvent, Retry, handler
from shared.errors import ConfigurationError
from workers.declaration import ATTRIBUTE, Handler, HandlerError

NOW = datetime(2015, 9, 25, 7, 12, 54, tzinfo=UTC)


def report(
    *, status: str = "DELIVRD", channel: str | None = "SMS", source: str = "main", is_final: bool = True
) -> ReportEvent:
    return ReportEvent(
        id="r1", source=source, api_job_id=None, client_job_id=None, message_id="1", client_message_id=None,
        channel=channel, status=status, is_final=is_final, occurred_at=NOW, sender="Fortytwo", recipient="35679000123",
        error_code=0, received_at=NOW, raw={},
    )  # fmt: skip


def reply(*, channel: str | None = "VIBER", source: str = "main") -> ReplyEvent:
    return ReplyEvent(
        id="m1", source=source, api_job_id=None, client_job_id=None, reply_message_id="1", orig_message_id=None,
        req_uuid=None, channel=channel, occurred_at=NOW, sender="35679000123", recipient="Fortytwo", text="Hello",
        received_at=NOW, raw={},
    )  # fmt: skip


def declaration_of(function: Callable[..., Any]) -> Handler:
    declaration = getattr(function, ATTRIBUTE)
    assert isinstance(declaration, Handler)
    return declaration


def refusal(function: Any, *kinds: Any, **options: Any) -> str:
    """Decorate `function`, and give what is told of it."""
    with pytest.raises(HandlerError) as error:
        handler(*kinds, **options)(function)
    return str(error.value)


def take(event: Event) -> None: ...


async def take_async(event: Event) -> None: ...


def test_an_author_imports_from_callbacks_alone_and_that_loads_neither_rq_nor_redis() -> None:
    assert set(callbacks.__all__) >= {"Event", "Reject", "ReplyEvent", "ReportEvent", "Retry", "handler"}
    code = (
        "import sys; from callbacks import handler; "
        "print(sorted({m.split('.')[0] for m in sys.modules} & {'rq', 'redis', 'starlette'}))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout == "[]\n"


def test_the_function_stays_what_it_is() -> None:
    def double(event: Any) -> int:
        return int(event) * 2

    assert handler(ReportEvent)(double) is double
    assert double(21) == 42


def test_without_options_everything_of_the_kind_comes_one_by_one() -> None:
    @handler(ReportEvent)
    def refund(event: ReportEvent) -> None: ...

    assert declaration_of(refund) == Handler(
        name="refund", function=refund, kinds=frozenset({"report"}), statuses=None, channels=None, sources=None,
        final=None, opt_outs=None, attempts=8, timeout_seconds=30.0, concurrency=1, batch=False, is_async=False,
    )  # fmt: skip
    assert declaration_of(refund).location == f"{__name__}.{refund.__qualname__}"


def test_every_option_is_kept() -> None:
    @handler(
        ReplyEvent, ReportEvent, name="Chat-2_x", statuses=["SEEN"], channels={"VIBER"}, sources=("main",), final=True,
        attempts=1, timeout_seconds=0.5, concurrency=32,
    )  # fmt: skip
    async def answer(event: Event, dry_run: bool = False) -> None: ...

    declaration = declaration_of(answer)
    assert declaration.name == "Chat-2_x"
    assert declaration.kinds == {"report", "reply"}
    assert declaration.statuses == frozenset({"SEEN"})
    assert declaration.channels == frozenset({"VIBER"})
    assert declaration.sources == frozenset({"main"})
    assert (declaration.final, declaration.attempts, declaration.timeout_seconds) == (True, 1, 0.5)
    assert (declaration.concurrency, declaration.batch, declaration.is_async) == (32, False, True)


def test_a_batch_handler_may_be_async() -> None:
    @handler(ReportEvent, batch=True)
    async def archive(events: list[Event]) -> None: ...

    assert declaration_of(archive).batch
    assert declaration_of(archive).is_async


# --- what a handler wants


@pytest.mark.parametrize(
    ("options", "event", "wanted"),
    [
        ({}, report(), True),
        ({}, reply(), True),
        ({"statuses": {"UNDELIV", "SEEN"}}, report(status="SEEN", is_final=True), True),
        ({"statuses": {"UNDELIV", "SEEN"}}, report(), False),
        ({"statuses": {"UNDELIV", "SEEN"}}, reply(), True),
        ({"channels": {"SMS"}}, report(), True),
        ({"channels": {"SMS"}}, report(channel="VIBER"), False),
        ({"channels": {"SMS"}}, report(channel=None), False),
        ({"channels": {"SMS"}}, reply(), False),
        ({"sources": {"main"}}, reply(), True),
        ({"sources": {"main"}}, reply(source="test"), False),
        ({"sources": {"main"}}, report(source="test"), False),
        ({"final": True}, report(), True),
        ({"final": True}, report(status="ACCEPTD", is_final=False), False),
        ({"final": False}, report(status="ACCEPTD", is_final=False), True),
        ({"final": False}, report(), False),
        ({"final": True}, reply(), True),
        ({"final": True, "statuses": {"SEEN"}, "channels": {"SMS"}}, report(status="SEEN"), True),
    ],
)
def test_filters_say_what_a_handler_wants(options: dict[str, Any], event: Event, wanted: bool) -> None:
    @handler(ReportEvent, ReplyEvent, **options)
    def take(event: Event) -> None: ...

    assert declaration_of(take).wants(event) is wanted


def test_a_handler_wants_only_its_kinds() -> None:
    @handler(ReportEvent)
    def reports(event: ReportEvent) -> None: ...

    @handler(ReplyEvent)
    def replies(event: ReplyEvent) -> None: ...

    assert (declaration_of(reports).wants(report()), declaration_of(reports).wants(reply())) == (True, False)
    assert (declaration_of(replies).wants(report()), declaration_of(replies).wants(reply())) == (False, True)


# --- what is refused


@pytest.mark.parametrize(
    ("kinds", "words"),
    [
        ((), "name the kinds of event"),
        (("report",), "'report' is not a kind of event"),
        ((Event,), "is not a kind of event"),
        ((ReportEvent, ReportEvent), "names a kind of event twice"),
        ((ReportEvent, dict), "is not a kind of event"),
        (([],), "[] is not a kind of event"),
    ],
)
def test_wrong_kinds_are_refused(kinds: tuple[Any, ...], words: str) -> None:
    assert words in refusal(lambda event: None, *kinds)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"name": ""}, "name must be 1 to 64 of a-z"),
        ({"name": "a b"}, "not 'a b'"),
        ({"name": "größe"}, "not 'größe'"),
        ({"name": "a:b"}, "not 'a:b'"),
        ({"name": "x\n"}, "not 'x\\n'"),
        ({"name": "x" * 65}, "name must be 1 to 64"),
        ({"name": 7}, "name must be"),
        ({"statuses": "SEEN"}, "statuses must be a set of texts such as {'…'}, not 'SEEN'"),
        ({"statuses": b"SEEN"}, "statuses must be a set"),
        ({"statuses": 7}, "statuses must be a set"),
        ({"statuses": set()}, "statuses is empty, so no event would pass"),
        ({"statuses": {7}}, "statuses must hold texts, not 7"),
        ({"statuses": {""}}, "statuses must hold texts, not ''"),
        ({"statuses": [["SEEN"]]}, "statuses must hold texts"),
        ({"channels": "SMS"}, "channels must be a set"),
        ({"channels": []}, "channels is empty"),
        ({"sources": (None,)}, "sources must hold texts, not None"),
        ({"final": "yes"}, "final must be True, False or None"),
        ({"final": 1}, "final must be True, False or None"),
        ({"opt_outs": "STOP"}, "opt_outs applies to replies only"),
        ({"attempts": 0}, "attempts must be a whole number from 1, not 0"),
        ({"attempts": 1.5}, "attempts must be a whole number"),
        ({"attempts": True}, "attempts must be a whole number"),
        ({"attempts": None}, "attempts must be a whole number"),
        ({"timeout_seconds": 0}, "timeout_seconds must be a number of seconds above 0, not 0"),
        ({"timeout_seconds": -1}, "timeout_seconds must be"),
        ({"timeout_seconds": float("nan")}, "timeout_seconds must be"),
        ({"timeout_seconds": float("inf")}, "timeout_seconds must be"),
        ({"timeout_seconds": "30"}, "timeout_seconds must be"),
        ({"timeout_seconds": None}, "timeout_seconds must be"),
        ({"concurrency": 0}, "concurrency must be a whole number from 1, not 0"),
        ({"concurrency": 2}, "concurrency=2 is only for `async def` without batch=True"),
        ({"batch": "yes"}, "batch must be True or False"),
    ],
)
def test_a_wrong_option_is_refused_at_once_with_the_handlers_name(options: dict[str, Any], words: str) -> None:
    message = refusal(take, ReportEvent, **options)
    assert message.startswith(f"{__name__}.take: ")
    assert words in message
    assert not hasattr(take, ATTRIBUTE)


def test_concurrency_is_not_for_batches() -> None:
    assert "concurrency=2 is only for" in refusal(take_async, ReportEvent, batch=True, concurrency=2)


@pytest.mark.parametrize("option", [{"statuses": {"SEEN"}}, {"final": True}])
def test_what_only_reports_have_is_refused_for_replies_alone(option: dict[str, Any]) -> None:
    message = refusal(take, ReplyEvent, **option)
    assert f"{next(iter(option))} applies to reports only, and the handler takes only replies" in message


@pytest.mark.parametrize(
    ("kinds", "value", "words"),
    [
        ((ReportEvent,), True, "opt_outs applies to replies only, and the handler takes only reports"),
        ((ReplyEvent,), "STOP", "opt_outs must be True, False or None for both, not 'STOP'"),
    ],
)
def test_opt_outs_is_a_filter_of_replies(kinds: tuple[Any, ...], value: object, words: str) -> None:
    assert words in refusal(take, *kinds, opt_outs=value)


def none() -> None: ...
def two(event: Event, more: int) -> None: ...
def by_keyword(*, event: Event) -> None: ...
def needs_keyword(event: Event, *, more: int) -> None: ...
def generator(event: Event) -> Iterator[Event]:
    yield event


async def async_generator(event: Event) -> AsyncIterator[Event]:
    yield event


class OnClass:
    def method(self, event: Event) -> None: ...
    def __call__(self, event: Event) -> None: ...


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (none, "none: must take exactly one argument, the event"),
        (two, "two: must take exactly one argument"),
        (by_keyword, "must take exactly one argument"),
        (needs_keyword, "must take exactly one argument"),
        (OnClass.method, "OnClass.method: must take exactly one argument"),
        (OnClass, "must be a function"),
        (OnClass(), "must be a function"),
        (functools.partial(two, more=1), "must be a function"),
        (7, "7: must be a function"),
        (None, "None: must be a function"),
        (generator, "is a generator, whose body would never run"),
        (async_generator, "is a generator"),
        (lambda event: None, "name must be 1 to 64 of a-z, A-Z, 0-9, '_' and '-', not '<lambda>'"),
    ],
)
def test_what_cannot_be_called_with_one_event_is_refused(function: Any, words: str) -> None:
    assert words in refusal(function, ReportEvent)


def test_the_error_for_a_batch_handler_says_that_it_takes_a_list() -> None:
    assert "must take exactly one argument, the list of events" in refusal(none, ReportEvent, batch=True)


def test_a_function_is_one_handler() -> None:
    @handler(ReportEvent)
    def once(event: Event) -> None: ...

    assert "is a handler already" in refusal(once, ReplyEvent, name="twice")


def test_the_decorator_without_parentheses_is_explained() -> None:
    with pytest.raises(HandlerError, match=r"write @handler\(ReportEvent\)"):
        handler(take)  # type: ignore[arg-type] # what an author may forget


def test_a_wrong_declaration_is_wrong_configuration() -> None:
    with pytest.raises(ConfigurationError) as error:
        handler()(take)
    assert len(error.value.problems) == 1


# --- what a handler says


@pytest.mark.parametrize("after_seconds", [None, 0, 0.5, 3600, 1e12, pytest.param(10**400, id="very large")])
def test_retry_says_when(after_seconds: float | None) -> None:
    assert Retry(after_seconds).after_seconds == after_seconds
    assert str(Retry(after_seconds, "busy")) == "busy"


@pytest.mark.parametrize("after_seconds", [-1, float("nan"), float("inf"), float("-inf"), True, "60"])
def test_retry_refuses_what_is_no_time(after_seconds: float) -> None:
    with pytest.raises(ValueError, match="after_seconds must be a number of seconds from 0"):
        Retry(after_seconds)


def test_reject_says_why() -> None:
    assert Reject("unknown customer").reason == str(Reject("unknown customer")) == "unknown customer"
    assert str(Reject()) == "the handler rejected the event"
