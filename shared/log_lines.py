"""Every line of every process's log, in one of two forms of the same fields.

    time=2026-11-29T14:00:00.000Z level=warning logger=callbacks.web process=7 action=refused status=404 …
    {"time": "2026-11-29T14:00:00.000Z", "level": "warning", "logger": "callbacks.web", "process": 7, "action": …}

A line of a library or of a handler's own code has `message` where ours have `action`. No line is more than one line: a
traceback is a field. None has a token.
"""

import json
import logging
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final, Literal, TypeAlias

from shared import log_context
from shared.library_lines import is_library
from shared.logfmt import escape_line_ends, format_fields
from shared.structured_log import ProcessorFormatter
from shared.token_mask import token_mask
from shared.tracebacks import format_redacted, type_name

LogFormat: TypeAlias = Literal["text", "json"]

_OWN: Final = "callbacks"
# What `logging` puts into each record. Anything else was given as `extra`.
_STANDARD: Final = frozenset((*logging.makeLogRecord({}).__dict__, "message", "asctime", "taskName"))


def make_formatter(form: LogFormat, mask: Callable[[str], str] | None = None) -> logging.Formatter:
    """Return what makes lines of records. `mask` is applied to each text; without it tokens in URLs are masked."""
    masked = mask or token_mask(())

    def mask_texts(_logger: Any, _method: str, fields: Any) -> Any:
        return {key: _plain(value, masked) for key, value in fields.items()}

    return _OneLineFormatter(
        foreign_pre_chain=[_foreign], processors=[_arrange, mask_texts, _to_json if form == "json" else _to_text]
    )


class _OneLineFormatter(ProcessorFormatter):
    def format(self, record: logging.LogRecord) -> str:
        try:
            return super().format(record)
        except Exception as exc:  # noqa: BLE001 - whatever the code of a handler raises
            # Arguments that do not fit the message, or whose `__str__` fails. `logging` would print them, unmasked and
            # on many lines; where the call stands is enough to find it.
            location = f"{record.filename}:{record.lineno}"
            message = f"the log call at {location} could not be formatted: {type_name(exc)}"
            plain = {name: record.__dict__[name] for name in ("name", "levelname", "created", "msecs", "process")}
            return super().format(logging.makeLogRecord({**plain, "msg": message}))


class MaskingFormatter(logging.Formatter):
    """Makes lines as `formatter` does, for a log that is not ours, with `mask` applied and no exception's message."""

    def __init__(self, formatter: logging.Formatter | None, mask: Callable[[str], str]) -> None:
        super().__init__()
        self._formatter = formatter or logging.Formatter()
        self._mask = mask

    def format(self, record: logging.LogRecord) -> str:
        """Return the line or lines of a record."""
        copied = logging.makeLogRecord(record.__dict__)
        exc = record.exc_info[1] if record.exc_info else None
        copied.exc_info, copied.exc_text = None, None if exc is None else format_redacted(exc)
        return self._mask(self._formatter.format(copied))


def _foreign(_logger: Any, _method: str, fields: Any) -> Any:
    """Return the fields of a record that is not ours: its message, what was given as `extra`, and its exception."""
    record = fields["_record"]
    found: dict[str, Any] = {"message": fields["event"]}
    if not is_library(record.name):
        taken = _STANDARD | log_context.fields().keys()
        found |= {key: value for key, value in record.__dict__.items() if key not in taken}
    elif getattr(record, "count", 1) > 1:
        found["count"] = record.count
    exc = record.exc_info[1] if record.exc_info else None
    if exc is not None:
        # What a handler logs is the handler's; a library may quote what it was given.
        is_redacted = is_library(record.name) or record.name.partition(".")[0] == _OWN
        text = format_redacted(exc) if is_redacted else logging.Formatter().formatException(record.exc_info)
        found |= {"error": type_name(exc), "traceback": text}
    return {**found, "_record": record}


def _arrange(_logger: Any, _method: str, fields: Any) -> Any:
    """Return the fields in their order: when and where, what happened, during which call, and the rest."""
    record = fields.pop("_record")
    fields.pop("_from_structlog", None)
    what = {name: fields.pop(name) for name in ("action", "message") if name in fields}
    first = {
        "time": datetime.fromtimestamp(record.created, UTC).strftime("%Y-%m-%dT%H:%M:%S.")
        + f"{int(record.msecs):03d}Z",
        "level": record.levelname.lower(),
        "logger": record.name,
        "process": record.process,
        **what,
    }
    return first | log_context.fields() | {key: value for key, value in fields.items() if key not in first}


def _plain(value: Any, mask: Callable[[str], str]) -> Any:
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, float) and value - value == 0:  # neither infinite nor not a number
        return value
    return mask(str(value))


def _to_text(_logger: Any, _method: str, fields: Any) -> str:
    return format_fields(fields)


def _to_json(_logger: Any, _method: str, fields: Any) -> str:
    known = {key: value for key, value in fields.items() if value is not None}
    return escape_line_ends(json.dumps(known, ensure_ascii=False))
