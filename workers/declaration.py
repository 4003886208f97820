"""The decorator that makes a function a handler, and the declaration that it leaves on the function.

Declaring checks at once everything that can be checked without an event. It registers the function nowhere:
`workers.registry` finds declarations by reading the modules that hold them, so importing a handler has no effect, and a
test calls the function as it is.
"""

import inspect
import math
import re
from collections.abc import Awaitable, Callable, Collection
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from dataclasses import dataclass
from typing import Any, Final, TypeAlias, TypeVar

from shared.errors import ConfigurationError
from shared.events import Event, ReplyEvent, ReportEvent, ReportTraits
from workers import filters
from workers.filters import EventKind

# What a worker process opens before a handler's first event and closes after its last.
Lifespan: TypeAlias = Callable[[], AbstractContextManager[Any] | AbstractAsyncContextManager[Any]]
# Reads what a handler needs from its environment, or raises ValueError.
Settings: TypeAlias = Callable[[], object]
# Erases what a handler stores of a phone number, its digits, and returns how many items that was.
Forget: TypeAlias = Callable[[str], int | Awaitable[int]]
Function = TypeVar("Function", bound=Callable[..., Any])

# The attribute that the decorator sets on the function.
ATTRIBUTE: Final = "callbacks_handler"
# A name is part of a queue's name, of Redis keys and of metric labels.
_NAME: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")
_KINDS: Final[dict[object, EventKind]] = {ReportEvent: "report", ReplyEvent: "reply"}


class HandlerError(ConfigurationError):
    """A handler is declared wrongly or cannot be found; the message names it and what is wrong.

    `entry` is the entry of CALLBACKS_HANDLERS that names it, and `problem` is what is wrong, without the entry.
    """

    def __init__(self, problem: str, *, entry: str | None = None) -> None:
        self.problem = problem
        super().__init__([problem if entry is None else f"CALLBACKS_HANDLERS: {entry!r}: {problem}"])


@dataclass(frozen=True, slots=True, kw_only=True)
class Handler:
    """What a handler's author declared, checked. A filter that is None matches everything."""

    name: str
    function: Callable[[Any], Any]
    kinds: frozenset[EventKind]
    statuses: frozenset[str] | None
    channels: frozenset[str] | None
    sources: frozenset[str] | None
    final: bool | None
    opt_outs: bool | None
    attempts: int
    timeout_seconds: float
    concurrency: int
    batch: bool
    is_async: bool
    lifespan: Lifespan | None = None
    settings: Settings | None = None
    forget: Forget | None = None

    @property
    def location(self) -> str:
        """Where it is declared: module.function."""
        return _location(self.function)

    def wants(self, event: Event | ReportTraits) -> bool:
        """Return whether its filters match. `statuses` and `final` are for reports only, `opt_outs` is for replies."""
        return filters.matches(self, event)


def handler(
    *kinds: type[ReportEvent] | type[ReplyEvent],
    name: str | None = None,
    statuses: Collection[str] | None = None,
    channels: Collection[str] | None = None,
    sources: Collection[str] | None = None,
    final: bool | None = None,
    opt_outs: bool | None = None,
    attempts: int = 8,
    timeout_seconds: float = 30,
    concurrency: int = 1,
    batch: bool = False,
    lifespan: Lifespan | None = None,
    settings: Settings | None = None,
    forget: Forget | None = None,
) -> Callable[[Function], Function]:
    """Make a handler of the decorated function, which stays what it is: `def` or `async def`, one argument.

    `kinds`: ReportEvent, ReplyEvent or both. `name` (the function's by default; 1 to 64 of a-z, A-Z, 0-9, "_",
    "-") names its queue, `deliver-<name>`; it must outlive a renaming of the function while events wait there.
    `statuses`, `channels`, `sources`: only events with one of these; `final`: only reports that are, or are not,
    final; `opt_outs`: only replies that are, or are not, a keyword such as STOP or START (`callbacks.opt_outs.wish`
    says which). With both kinds, `statuses` and `final` filter the reports, and `opt_outs` the replies; others pass.

    An event that fails is tried up to `attempts` times. A call may take `timeout_seconds`, then it is ended by
    HandlerTimeout (`def`) or by cancellation (`async def`). `concurrency` is how many events one process works on at
    once, above 1 only for `async def` without `batch`. With `batch` the argument is a list of events, the timeout is
    for the whole list, and a list that fails is split: the handler is called again with lists of one event.

    `lifespan` is for pools and clients: a function without arguments, made by contextlib.contextmanager or, for an
    `async def` handler only, contextlib.asynccontextmanager. Each worker process enters it once, before the handler's
    first event (an async one on the loop of the calls), and leaves it when it stops; what it yields is ignored. It may
    take `timeout_seconds` to open, and the same but at most 5 s to close. If it fails to open, the process ends and is
    restarted, after a longer time each time; no event loses an attempt.

    `settings` reads what the handler needs from the environment and from files: a function without arguments, which
    raises ValueError with a sentence that names the variable; what it returns is ignored. The handler's own worker
    processes call it before the lifespan, and so do `callbacks check` and `handlers try`. A process that only needs to
    know which events the handler wants does not call it. What a module reads on import, every process reads.

    `forget` erases what the handler has stored of a person, for `callbacks forget`: a function (def or async def) that
    gets a phone number, its digits with the country's code, and returns how many items it erased. It is called with
    the settings read and the lifespan open; called again, it erases nothing more and returns 0.

    A call that returns has succeeded; one that raises has failed. Retry, Reject and Pause say more, raised or returned;
    any other value is ignored. Retry: this event again later. Reject: never this event again. Pause: the target is
    unavailable for every event; no attempt is lost, and the handler's whole queue waits, in all its processes. When the
    time is over one event is tried first, alone (a batch handler gets a list of one). If it succeeds or is rejected,
    the queue continues; if it pauses again, the pause continues for the new time; if it fails, that is its own attempt,
    and the pause continues for as long again. An event is frozen, and `event.raw` must not be changed.

    A function is one handler: for two, write two functions. Raise HandlerError, naming function and option.
    """

    def declare(function: Function) -> Function:
        problem, is_async = _shape(function, batch=batch)
        problem = (
            problem
            or _kinds_problem(kinds, statuses=statuses, final=final, opt_outs=opt_outs)
            or _filters_problem(statuses=statuses, channels=channels, sources=sources)
            or _limits_problem(attempts=attempts, timeout_seconds=timeout_seconds, concurrency=concurrency)
            or _flags_problem(final=final, opt_outs=opt_outs, batch=batch)
            or _lifespan_problem(lifespan, is_async=is_async)
            or _settings_problem(settings)
            or _forget_problem(forget)
        )
        called = getattr(function, "__name__", "") if name is None else name
        if not problem and (not isinstance(called, str) or not _NAME.fullmatch(called)):
            problem = f"name must be 1 to 64 of a-z, A-Z, 0-9, '_' and '-', not {called!r}"
        if not problem and concurrency > 1 and (batch or not is_async):
            problem = f"concurrency={concurrency} is only for `async def` without batch=True"
        if problem:
            raise HandlerError(f"{_location(function)}: {problem}")
        declaration = Handler(
            name=called,
            function=function,
            kinds=frozenset(_KINDS[kind] for kind in kinds),
            statuses=None if statuses is None else frozenset(statuses),
            channels=None if channels is None else frozenset(channels),
            sources=None if sources is None else frozenset(sources),
            final=final,
            opt_outs=opt_outs,
            attempts=attempts,
            timeout_seconds=float(timeout_seconds),
            concurrency=concurrency,
            batch=batch,
            is_async=is_async,
            lifespan=lifespan,
            settings=settings,
            forget=forget,
        )
        setattr(function, ATTRIBUTE, declaration)
        return function

    # `@handler` without parentheses passes the function where the kinds belong.
    for kind in kinds:
        if inspect.isroutine(kind):
            raise HandlerError(f"{_location(kind)}: write @handler(ReportEvent), with the kinds of event it takes")
    return declare


def _shape(function: object, *, batch: object) -> tuple[str, bool]:
    """Return what is wrong with a handler's function, "" if nothing, and whether it is async."""
    if not inspect.isfunction(function):
        return "must be a function (def or async def)", False
    if hasattr(function, ATTRIBUTE):
        return "is a handler already: write a second function for a second handler", False
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        return "is a generator, whose body would never run: remove the `yield`", False
    try:
        inspect.signature(function).bind(object())
    except TypeError:
        return f"must take exactly one argument, the {'list of events' if batch is True else 'event'}", False
    return "", inspect.iscoroutinefunction(function)


def _kinds_problem(kinds: tuple[object, ...], *, statuses: object, final: object, opt_outs: object) -> str:
    if not kinds:
        return "name the kinds of event it takes: ReportEvent, ReplyEvent or both"
    for kind in kinds:
        if not isinstance(kind, type) or kind not in _KINDS:
            return f"{kind!r} is not a kind of event: use ReportEvent or ReplyEvent"
    if len(set(kinds)) < len(kinds):
        return "names a kind of event twice"
    if ReportEvent not in kinds:
        for option, value in (("statuses", statuses), ("final", final)):
            if value is not None:
                return f"{option} applies to reports only, and the handler takes only replies"
    if ReplyEvent not in kinds and opt_outs is not None:
        return "opt_outs applies to replies only, and the handler takes only reports"
    return ""


def _filters_problem(**filters: object) -> str:
    for option, values in filters.items():
        if values is None:
            continue
        if isinstance(values, str | bytes) or not isinstance(values, Collection):
            return f"{option} must be a set of texts such as {{'…'}}, not {values!r}"
        if not values:
            return f"{option} is empty, so no event would pass: leave it out for all events"
        for value in values:
            if not isinstance(value, str) or not value:
                return f"{option} must hold texts, not {value!r}"
    return ""


def _limits_problem(*, attempts: object, timeout_seconds: object, concurrency: object) -> str:
    for option, value in (("attempts", attempts), ("concurrency", concurrency)):
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            return f"{option} must be a whole number from 1, not {value!r}"
    if (
        not isinstance(timeout_seconds, int | float)
        or isinstance(timeout_seconds, bool)
        or not (math.isfinite(timeout_seconds) and timeout_seconds > 0)
    ):
        return f"timeout_seconds must be a number of seconds above 0, not {timeout_seconds!r}"
    return ""


def _flags_problem(*, batch: object, **filters: object) -> str:
    for option, value in filters.items():
        if value is not None and not isinstance(value, bool):
            return f"{option} must be True, False or None for both, not {value!r}"
    return "" if isinstance(batch, bool) else f"batch must be True or False, not {batch!r}"


def _lifespan_problem(lifespan: object, *, is_async: bool) -> str:
    if lifespan is None:
        return ""
    if not inspect.isroutine(lifespan):
        return f"lifespan must be a function that opens it (a context manager), not {lifespan!r}"
    # unwrap finds what contextlib's decorators wrap, below any other decorators.
    body = inspect.unwrap(lifespan)
    opens_async = inspect.isasyncgenfunction(body)
    if body is lifespan or not (opens_async or inspect.isgeneratorfunction(body)):
        return (
            f"lifespan={_location(lifespan)} must be made by contextlib.contextmanager or "
            "contextlib.asynccontextmanager: put one of them above it"
        )
    if opens_async and not is_async:
        return f"lifespan={_location(lifespan)} is async, which only an `async def` handler can have"
    try:
        inspect.signature(lifespan).bind()
    except TypeError:
        return f"lifespan={_location(lifespan)} must take no argument"
    return ""


def _settings_problem(settings: object) -> str:
    if settings is None:
        return ""
    if not callable(settings):
        return f"settings must be a function that reads them, not {settings!r}"
    try:
        inspect.signature(settings).bind()
    except TypeError:
        return f"settings={_location(settings)} must take no argument"
    return ""


def _forget_problem(forget: object) -> str:
    if forget is None:
        return ""
    if not callable(forget):
        return f"forget must be a function that erases a number, not {forget!r}"
    try:
        inspect.signature(forget).bind(object())
    except TypeError:
        return f"forget={_location(forget)} must take exactly one argument, the number"
    return ""


def _location(function: object) -> str:
    module = getattr(function, "__module__", None)
    called = getattr(function, "__qualname__", None)
    return f"{module}.{called}" if module and called else repr(function)
