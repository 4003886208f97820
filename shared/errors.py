"""The errors that cross module boundaries, and what to do about each.

    CallbacksError
    ├── ConfigurationError   the operator: correct the variable that it names, start again
    │   └── HandlerError     the handler's author (workers.declaration)
    ├── NotJson              the sender: send it again, it was damaged on the way
    ├── UnexpectedShape      us: quarantine the callback, as no repetition helps
    └── StoreUnavailable     the sender: send it again later, nothing could store it now

An exception's docstring is its message if the raiser gives none.
"""

from collections.abc import Sequence
from typing import TypeVar

_Kind = TypeVar("_Kind", bound=BaseException)


class CallbacksError(Exception):
    """Something went wrong in the callbacks service."""

    def __str__(self) -> str:
        return super().__str__() or (self.__doc__ or "").strip()


class ConfigurationError(CallbacksError):
    """The configuration is wrong. `problems` has a sentence for each mistake, which names its variable."""

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(self.problems))


class NotJson(CallbacksError):
    """The body is not JSON, or was cut short."""


class UnexpectedShape(CallbacksError):
    """The body is JSON, but not what the specification describes. The message ends with the JSON path."""


class StoreUnavailable(CallbacksError):
    """The callback could not be made durable. Send it again after `retry_after_seconds`."""

    def __init__(self, reason: str, *, retry_after_seconds: int = 30) -> None:
        self.retry_after_seconds = retry_after_seconds
        super().__init__(reason)


class Terminated(SystemExit):
    """A signal terminated this process, whatever code it ran just then; `code` is the exit code.

    A SystemExit, as event loops pass on only that and KeyboardInterrupt.
    """


def find_cause(error: BaseException | None, kinds: type[_Kind] | tuple[type[_Kind], ...]) -> _Kind | None:
    """Return the error, or the first cause of it, that is of one of these kinds; None if none is."""
    if error is None or isinstance(error, kinds):
        return error
    return find_cause(error.__cause__, kinds)
