"""Lines of the log, from every logger: readable by a logfmt reader or as JSON, one line each, and without tokens."""

import asyncio
import json
import logging
import re
from typing import Any, get_args

import pytest
from opentelemetry import trace

from callbacks import ReportEvent, handler, samples
from shared import log_context, log_lines, logs
from shared.line_limit import REPEATED, LineLimit
from shared.log_lines import LogFormat
from shared.rate_limited_log import LineCounter
from shared.structured_log import get_logger
from shared.token_mask import token_mask
from tests.clock import Clock
from workers.declaration import ATTRIBUTE
from workers.deliver.call.caller import Caller

SECRET = "s3cr<t>:1"
NUMBER = "35699" + "000001"
_FIELD = re.compile(r"""([^\s"=]+)=(?:"((?:[^"\\]|\\.)*)"|([^\s"=\\]*))(?: |$)""")


def read_logfmt(line: str) -> dict[str, str]:
    """Return the fields of a line, as go-logfmt reads it: a quoted value is a JSON string."""
    found: dict[str, str] = {}
    position = 0
    while position < len(line):
        field = _FIELD.match(line, position)
        assert field is not None, f"no field at {position} of {line!r}"
        key, quoted, bare = field.groups()
        assert key not in found, f"{key} twice in {line!r}"
        found[key] = json.loads(f'"{quoted}"') if quoted is not None else bare
        position = field.end()
    return found


def read(form: LogFormat, line: str) -> dict[str, Any]:
    """Return the fields of a line of either form, as texts."""
    assert len(line.splitlines()) == 1
    line.encode()
    if form == "text":
        return read_logfmt(line)
    return {key: value if isinstance(value, str) else json.dumps(value) for key, value in json.loads(line).items()}


def line_of(form: LogFormat, record: logging.LogRecord) -> dict[str, Any]:
    return read(form, log_lines.make_formatter(form, token_mask([SECRET])).format(record))


def foreign(message: str, *args: object, name: str = "uvicorn.error", **given: Any) -> logging.LogRecord:
    record = logging.LogRecord(name, logging.ERROR, "", 0, message, args, given.pop("exc_info", None))
    record.__dict__.update(given)
    return record


def own(caplog: pytest.LogCaptureFixture, action: str, **fields: Any) -> logging.LogRecord:
    get_logger("callbacks.test").warning(action, **fields)
    return caplog.records[-1]


def failure(error: Exception) -> Any:
    try:
        try:
            raise LookupError(SECRET)
        except LookupError as exc:
            raise error from exc
    except type(error) as exc:
        return type(exc), exc, exc.__traceback__


@pytest.mark.parametrize("form", get_args(LogFormat))
def test_a_line_says_when_and_where_then_what(form: LogFormat, caplog: pytest.LogCaptureFixture) -> None:
    line = line_of(form, own(caplog, "job_split", queue="expand", items=2))
    assert list(line) == ["time", "level", "logger", "process", "action", "queue", "items"]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", line["time"])
    assert (line["level"], line["logger"]) == ("warning", "callbacks.test")
    assert (line["action"], line["queue"], line["items"]) == ("job_split", "expand", "2")


@pytest.mark.parametrize("form", get_args(LogFormat))
@pytest.mark.parametrize(
    "value",
    [
        "two words",
        'say "no"',
        "a=b",
        "back\\slash",
        "\\n",
        "two\nlines",
        "carriage\rreturn",
        "tab\t",
        "\x00\x1b[31m",
        "\x85\u2028\u2029\x9f\x7f",
        "Grüß Gott, Ελλάδα",
        "",
        " ",
        "'",
        '"',
        "trailing\\",
        "{'key': 'value'}",
    ],
)
def test_any_text_is_read_back_as_it_was(form: LogFormat, value: str, caplog: pytest.LogCaptureFixture) -> None:
    line = line_of(form, own(caplog, "something", field=value, last="x"))
    assert (line["field"], line["last"]) == (value, "x")


@pytest.mark.parametrize("form", get_args(LogFormat))
@pytest.mark.parametrize(
    ("value", "text"),
    [(True, "true"), (0, "0"), (2**70, str(2**70)), (0.5, "0.5"), (float("nan"), "nan"), (ValueError("a b"), "a b")],
)
def test_other_values_become_numbers_or_text(
    form: LogFormat, value: object, text: str, caplog: pytest.LogCaptureFixture
) -> None:
    assert line_of(form, own(caplog, "something", field=value))["field"] == text


@pytest.mark.parametrize("form", get_args(LogFormat))
def test_no_character_turns_the_direction_of_a_line(form: LogFormat) -> None:
    record = foreign("to \u202eevil\u2066", name="shop", **{"k\u202e": "\u200f"})
    line = log_lines.make_formatter(form).format(record)
    assert not set(line) & set("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
    assert read(form, line)["message"] == "to \u202eevil\u2066"


class _NoText:
    def __str__(self) -> str:
        raise RuntimeError(SECRET)


@pytest.mark.parametrize("form", get_args(LogFormat))
@pytest.mark.parametrize(
    ("message", "args", "given"),
    [
        ("number %d", (NUMBER,), {}),
        ("number %s of %s", (NUMBER,), {}),
        ("%s", (_NoText(),), {}),
        ("hello", (), {"customer": _NoText()}),
        ("hello", (), {"count": 10**5000}),
    ],
)
def test_a_call_that_cannot_be_formatted_is_one_line_without_its_values(
    form: LogFormat, message: str, args: Any, given: Any
) -> None:
    line = line_of(form, foreign(message, *args, name="shop", **given))
    assert re.fullmatch(r"the log call at \S*:\d+ could not be formatted: \w+", line["message"])
    assert (line["logger"], line["level"]) == ("shop", "error")
    assert NUMBER not in str(line)
    assert SECRET not in str(line)


@pytest.mark.parametrize("form", get_args(LogFormat))
def test_half_of_a_surrogate_pair_can_be_written(form: LogFormat, caplog: pytest.LogCaptureFixture) -> None:
    assert "field" in line_of(form, own(caplog, "something", field="\ud800"))


@pytest.mark.parametrize("form", get_args(LogFormat))
def test_a_field_that_is_none_is_left_out(form: LogFormat, caplog: pytest.LogCaptureFixture) -> None:
    assert "error" not in line_of(form, own(caplog, "something", error=None))


@pytest.mark.parametrize("form", get_args(LogFormat))
def test_an_exception_of_ours_has_its_places_but_not_its_message(
    form: LogFormat, caplog: pytest.LogCaptureFixture
) -> None:
    line = line_of(form, own(caplog, "job_failed", exc_info=failure(ValueError(NUMBER))[1]))
    assert line["error"] == "ValueError"
    assert "raise error from exc" in line["traceback"]
    assert "caused by LookupError" in line["traceback"]
    assert NUMBER not in line["traceback"]


@pytest.mark.parametrize("form", get_args(LogFormat))
def test_so_has_an_exception_of_a_library(form: LogFormat) -> None:
    record = foreign("Exception in ASGI application", exc_info=failure(ValueError(NUMBER)))
    line = line_of(form, record)
    assert (line["message"], line["error"]) == ("Exception in ASGI application", "ValueError")
    assert "raise error from exc" in line["traceback"]
    assert NUMBER not in line["traceback"]
    assert SECRET not in line["traceback"]


@pytest.mark.parametrize("form", get_args(LogFormat))
def test_what_a_handler_logs_is_its_own(form: LogFormat) -> None:
    record = foreign(
        "order %d", 7, name="shop", exc_info=failure(ValueError("no such order")), customer="a b", time="x"
    )
    line = line_of(form, record)
    assert (line["message"], line["logger"], line["customer"]) == ("order 7", "shop", "a b")
    assert line["time"] != "x"
    assert line["traceback"].endswith("ValueError: no such order")


@pytest.mark.parametrize("form", get_args(LogFormat))
def test_a_line_within_a_call_names_its_handler_and_event(form: LogFormat, caplog: pytest.LogCaptureFixture) -> None:
    token = log_context.call.set(("shop", "0001"))
    try:
        line = line_of(form, foreign("hello", name="shop", event="0002", trace="t", _record=1))
        ours = line_of(form, own(caplog, "something", handler="other"))
    finally:
        log_context.call.reset(token)
    assert (line["handler"], line["event"]) == ("shop", "0001")
    assert "trace" not in line
    assert ours["handler"] == "other"
    assert "handler" not in line_of(form, foreign("hello", name="shop"))


@pytest.mark.parametrize("form", get_args(LogFormat))
@pytest.mark.parametrize(
    ("message", "args"),
    [
        ("%s", ("/callbacks/s3cr<t>:1",)),
        ("%s", ("/callbacks/s3cr%3Ct%3E:1?x=1",)),
        ("%s", ("//callbacks//s3cr<t>:1/status",)),
        ("%s", ("/CALLBACKS/s3cr<t>:1/reply",)),
        ("%s", ("/callbacks?token=s3cr%253Ct%253e%253A1",)),
        ("%s", ("/x?token=%733%63r<t>%3A1",)),
        ("/callbacks/s3cr %d", (7,)),
        ("%(path)s", ({"path": "/callbacks/s3cr"},)),
        ("%s", (f"/x/{SECRET}".encode(),)),
        ("%s", (ValueError(SECRET),)),
        ("%s", ({"path": SECRET},)),
        ("%s", ([SECRET],)),
    ],
)
@pytest.mark.parametrize("name", ["uvicorn.access", "rq.worker", "shop"])
def test_no_line_of_any_logger_has_the_token(form: LogFormat, name: str, message: str, args: Any) -> None:
    assert "s3cr" not in line_of(form, foreign(message, *args, name=name))["message"]


@pytest.mark.parametrize("form", get_args(LogFormat))
def test_no_field_of_ours_has_the_token(form: LogFormat, caplog: pytest.LogCaptureFixture) -> None:
    line = line_of(form, own(caplog, "something", url="/callbacks/yesterday/status", error=ValueError(SECRET)))
    assert (line["url"], line["error"]) == ("/callbacks/***/status", "***")


def test_the_log_of_another_server_has_neither_token_nor_message() -> None:
    access = logging.Formatter("%(levelname)s %(message)s")
    record = foreign('"POST %s HTTP/1.1" %d', f"/callbacks/{SECRET}/status", 200, exc_info=failure(ValueError(NUMBER)))
    line = log_lines.MaskingFormatter(access, token_mask([SECRET])).format(record)
    assert line.startswith('ERROR "POST /callbacks/***/status HTTP/1.1" 200\nValueError\n')
    assert "caused by LookupError" in line
    assert NUMBER not in line


def test_tokens_are_masked_in_all_handlers_until_that_is_undone() -> None:
    handler = logging.StreamHandler()
    logger = logging.getLogger("uvicorn.access")
    logger.addHandler(handler)
    try:
        undo = logs.mask_tokens([SECRET])
        assert "s3cr" not in handler.format(foreign(SECRET))
        undo()
        assert (handler.formatter, handler.filters) == (None, [])
    finally:
        logger.removeHandler(handler)


def test_a_librarys_lines_are_limited_and_those_of_others_are_not() -> None:
    clock = Clock()
    limit = LineLimit(LineCounter(interval_seconds=10, now_seconds=clock))

    def passed(message: str, name: str = "uvicorn.error") -> bool:
        return limit.filter(foreign(message, name=name))

    complaint = "ASGI callable returned without completing response."
    assert [passed(complaint) for _ in range(100)] == [True] + [False] * 99
    assert passed("Exception in ASGI application")
    assert all(passed("again", name="shop") for _ in range(3))
    assert all(limit.filter(logging.makeLogRecord({"name": "uvicorn", "levelno": logging.INFO})) for _ in range(3))
    clock.seconds += 10
    record = foreign(complaint)
    assert limit.filter(record)
    assert line_of("text", record)["count"] == "100"


def test_each_call_of_a_handler_has_its_own_context() -> None:
    found: list[dict[str, Any]] = []

    @handler(ReportEvent, name="shop")
    def plain(_event: Any) -> None:
        found.append(log_context.fields())

    @handler(ReportEvent, name="chat", concurrency=2)
    async def several(_event: Any) -> None:
        await asyncio.sleep(0)
        found.append(log_context.fields())

    @handler(ReportEvent, name="ledger", batch=True)
    def whole(_events: Any) -> None:
        found.append(log_context.fields())

    events = [samples.report(message_id=str(number)) for number in range(2)]
    for function in (plain, several, whole):
        with Caller(getattr(function, ATTRIBUTE)) as caller:
            assert len(list(caller.call(events))) == 2
    ids = [event.id for event in events]
    assert [(each["handler"], each["event"]) for each in found] == [
        *(("shop", one) for one in ids),
        *(("chat", one) for one in ids),
        ("ledger", None),
    ]
    assert log_context.fields() == {}


def test_what_each_event_may_cause_is_logged_once_per_interval(caplog: pytest.LogCaptureFixture) -> None:
    clock = Clock()
    limit = LineLimit(LineCounter(interval_seconds=10, now_seconds=clock))

    def passed(action: str, **fields: Any) -> str | None:
        record = own(caplog, action, **fields)
        return record.getMessage() if limit.filter(record) else None

    assert passed("event_retried", handler="crm", events=2, cause="A", error="1") is not None
    assert [passed("event_retried", handler="crm", events=3, cause="A", error=str(n)) for n in range(9)] == [None] * 9
    assert passed("event_retried", handler="crm", events=1, cause="B") is not None
    assert passed("event_retried", handler="erp", events=1, cause="A") is not None
    assert passed("job_split", queue="expand", items=2) == "action=job_split queue=expand items=2 count=1"
    assert all(passed("handler_paused", handler="crm") for _ in range(3))
    clock.seconds += 10
    line = passed("event_retried", handler="crm", events=1, cause="A", error="9")
    assert line == "action=event_retried handler=crm events=28 cause=A error=9"


def test_each_action_that_is_limited_is_documented() -> None:
    assert all(re.search(rf"^    .*\b{action}\b", logs.__doc__ or "", re.MULTILINE) for action in REPEATED)


def test_a_line_within_a_recorded_call_has_its_trace() -> None:
    span = trace.NonRecordingSpan(trace.SpanContext(0xA1, 0xB2, is_remote=False))
    token = log_context.call.set(("shop", "0001"))
    try:
        with trace.use_span(span):
            assert log_context.fields()["trace"] == f"{0xA1:032x}"
        assert log_context.fields()["trace"] is None
    finally:
        log_context.call.reset(token)
