"""The loggers of this service. A line is an action and its fields.

    log = get_logger("callbacks.worker")
    log.warning("job_split", queue=queue, job=job_id, items=2)

They are structlog's, with a record of `logging` for each line, so that levels, filters and handlers apply to it as to
the lines of libraries (`shared.log_lines` writes both). structlog itself is not configured: a handler may do that for
its own lines.
"""

import logging
import sys
from typing import Any

from shared.logfmt import format_fields
from shared.tracebacks import format_redacted, type_name

# structlog would import rich for a console that nothing here has: 5 MB of memory and 40 ms in each process.
if _hides_rich := "rich" not in sys.modules:
    sys.modules["rich"] = None  # type: ignore[assignment] # Python's way to say that there is no such module
import structlog
from structlog.stdlib import BoundLogger, ProcessorFormatter
from structlog.typing import EventDict

if _hides_rich:
    del sys.modules["rich"]

__all__ = ("BoundLogger", "LogEvent", "ProcessorFormatter", "get_logger")


class LogEvent(dict[str, Any]):
    """An action with its fields. Its text is logfmt, for a formatter other than ours."""

    def __str__(self) -> str:
        return format_fields(self)


def get_logger(name: str) -> BoundLogger:
    """Return the logger of that name. An exception given as `exc_info` is logged without its message (I9)."""
    logger: BoundLogger = structlog.wrap_logger(
        logging.getLogger(name),
        processors=[structlog.stdlib.filter_by_level, _to_record],
        wrapper_class=BoundLogger,
        cache_logger_on_first_use=True,
    )
    return logger


def _to_record(logger: logging.Logger, method: str, event: EventDict) -> Any:
    fields = LogEvent(action=event.pop("event"))
    exc = event.pop("exc_info", None)
    fields.update(event)
    if isinstance(exc, BaseException):
        fields.update(error=type_name(exc), traceback=format_redacted(exc))
    return ProcessorFormatter.wrap_for_formatter(logger, method, fields)
