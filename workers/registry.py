"""Finds the handlers that CALLBACKS_HANDLERS names: all of them, or an error that says which one is missing and why.

An entry is first searched among the installed entry points of the group `callbacks.handlers` (whose value is a
module, or module:function), then as a dotted module, in the current folder too. So an installed
package wins over a module of the same name.
"""

import importlib
import inspect
import operator
import pkgutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import ModuleType
from typing import Final

from callbacks.distribution import MissingExtra
from shared.did_you_mean import did_you_mean
from shared.errors import Terminated
from workers import reserved_names
from workers.declaration import ATTRIBUTE, Handler, HandlerError
from workers.raised_at import raised_at

GROUP: Final = "callbacks.handlers"


def installed_names() -> tuple[str, ...]:
    """Return the names under which installed packages offer handlers, sorted."""
    return tuple(sorted({point.name for point in entry_points(group=GROUP)}))


@dataclass(frozen=True, slots=True)
class LoadResult:
    """The handlers of each entry that has any, and what is wrong with each of the others."""

    handlers: Mapping[str, tuple[Handler, ...]]
    problems: Mapping[str, HandlerError]


def load_each(names: Sequence[str], *, with_settings: bool) -> LoadResult:
    """Import the entries `names`, each independently of errors of the others.

    `with_settings` also reads each handler's own settings. A handler with the name of a handler of an earlier entry is
    a problem of its own entry.
    """
    handlers: dict[str, tuple[Handler, ...]] = {}
    problems: dict[str, HandlerError] = {}
    by_name: dict[str, Handler] = {}
    for entry in dict.fromkeys(names):
        try:
            found = _load_entry(entry, by_name)
            if with_settings:
                for handler in found:
                    read_settings(handler, entry=entry)
        except HandlerError as exc:
            problems[entry] = exc
        else:
            by_name |= {handler.name: handler for handler in found}
            handlers[entry] = found
    return LoadResult(handlers, problems)


def read_settings(handler: Handler, *, entry: str) -> None:
    """Read what the handler needs from its environment. Raise HandlerError."""
    if handler.settings is None:
        return
    try:
        handler.settings()
    except (Exception, SystemExit) as exc:  # it is the author's code, which may raise anything
        problem = f"{exc}"
        if not isinstance(exc, ValueError):
            problem = f"{type(exc).__name__}: {exc}{raised_at(exc, handler.function.__module__)}"
        raise HandlerError(f"its settings: {problem}", entry=entry) from exc


def load(names: Sequence[str]) -> tuple[Handler, ...]:
    """Import the entries `names`, and return their handlers, in the order of `names`, then of each module.

    A module's handlers are the decorated functions that it, or a module below it, defines. One that it only imports
    from another module belongs to that one. Naming the same handler twice is naming it once. Raise HandlerError for a
    name that is unknown or cannot be imported, for a module without handlers, for two handlers with one name, and for
    wrong settings of one.
    """
    loaded = load_each(names, with_settings=True)
    for problem in loaded.problems.values():
        raise problem
    return tuple(handler for handlers in loaded.handlers.values() for handler in handlers)


def _load_entry(entry: str, others: Mapping[str, Handler]) -> tuple[Handler, ...]:
    """Import an entry, and return those of its handlers that are not among the others."""
    here = str(Path.cwd())
    if here not in sys.path and "" not in sys.path:
        sys.path.insert(0, here)
    handlers: dict[str, Handler] = {}
    for found in _find_handlers(entry):
        other = others.get(found.name) or handlers.get(found.name) or found
        if other is not found:
            raise HandlerError(
                f"{found.location} and {other.location} are both named {found.name!r}: give one of them another name=…",
                entry=entry,
            )
        if found.name not in others:
            handlers[found.name] = found
    return tuple(handlers.values())


def _find_handlers(entry: str) -> list[Handler]:
    points = {point.value: point for point in entry_points(group=GROUP, name=entry)}
    if len(points) > 1:
        raise HandlerError(f"is offered by several packages: {', '.join(sorted(points))}", entry=entry)
    for point in points.values():
        module = _import(entry, point.module)
        return [_handler_at(entry, module, point)] if point.attr else _handlers_in_module(entry, module)
    if problem := reserved_names.check_entry(entry):
        raise HandlerError(problem, entry=entry)
    return _handlers_in_module(entry, _import(entry, entry))


def _import(entry: str, name: str) -> ModuleType:
    before = set(sys.modules)
    try:
        module = importlib.import_module(name)
    except Terminated:
        raise
    except HandlerError as exc:
        raise HandlerError(exc.problem, entry=entry) from exc
    except (Exception, SystemExit) as exc:  # importing runs the author's code, which may raise anything
        if problem := reserved_names.explain_error(exc):
            raise HandlerError(problem, entry=entry) from exc
        if isinstance(exc, MissingExtra):
            raise HandlerError(str(exc), entry=entry) from exc
        if isinstance(exc, ModuleNotFoundError) and exc.name and f"{name}.".startswith(f"{exc.name}."):
            raise HandlerError(
                f"is neither an installed handler ({', '.join(installed_names()) or 'none'}) nor a module on the path: "
                f"{exc}{_hint(entry, exc)}",
                entry=entry,
            ) from exc
        if isinstance(exc, ValueError) and entry in installed_names():
            # Handlers of packages report wrong settings like this: nothing is broken.
            raise HandlerError(f"its settings: {exc}", entry=entry) from exc
        problem = f"cannot be imported: {type(exc).__name__}: {exc}{raised_at(exc, name)}"
        raise HandlerError(problem, entry=entry) from exc
    if problem := reserved_names.check_imports(before):
        raise HandlerError(problem, entry=entry)
    return module


def _hint(entry: str, error: ModuleNotFoundError) -> str:
    if entry.endswith(".py"):
        return "; name it without the .py"
    if "is not a package" in str(error):
        return "; name the module, not the function in it"
    if entry in installed_names():  # its package's own metadata are wrong
        return ""
    return did_you_mean(
        entry, (*installed_names(), *(module.name for module in pkgutil.iter_modules([str(Path.cwd())])))
    )


def _handler_at(entry: str, module: ModuleType, point: EntryPoint) -> Handler:
    try:
        function: object = operator.attrgetter(point.attr)(module)
    except AttributeError as exc:
        raise HandlerError(f"{exc}", entry=entry) from exc
    declared = _declaration_of(entry, function)
    if declared is None:
        raise HandlerError(f"{point.value} is not decorated with @handler", entry=entry)
    return declared


def _handlers_in_module(entry: str, module: ModuleType) -> list[Handler]:
    own: list[Handler] = []
    foreign: list[str] = []
    for declared in filter(None, (_declaration_of(entry, value) for value in vars(module).values())):
        if f"{declared.function.__module__}.".startswith(f"{module.__name__}."):
            own.append(declared)
        else:
            foreign.append(declared.location)
    if not own:
        hint = f"; what it imports must be named by its own module: {', '.join(foreign)}" if foreign else ""
        raise HandlerError(f"{module.__name__} declares no handler{hint}", entry=entry)
    return own


def _declaration_of(entry: str, value: object) -> Handler | None:
    # Functions only: other objects may have any attribute.
    declared = getattr(value, ATTRIBUTE, None) if inspect.isfunction(value) else None
    if not isinstance(declared, Handler):
        return None
    if declared.function is not value:  # functools.wraps copies attributes
        raise HandlerError(
            f"{declared.location} is wrapped by another decorator, which would never be called: put @handler above it",
            entry=entry,
        )
    return declared
