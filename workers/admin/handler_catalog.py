"""All handlers: those that CALLBACKS_HANDLERS names, and those that are installed and not named.

Unlike `registry.load`, which a worker uses, a broken module does not hide the others: its entry says what is wrong.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import entry_points

from shared.did_you_mean import did_you_mean
from workers import registry
from workers.declaration import Handler, HandlerError


@dataclass(frozen=True, slots=True, kw_only=True)
class CatalogEntry:
    """A handler; or, if `handler` is None, an entry that cannot be loaded, and the problem.

    `entry` is its name in CALLBACKS_HANDLERS; `package` the installed package that provides it, "" for a module of the
    project.
    """

    entry: str
    is_named: bool
    handler: Handler | None
    package: str
    problem: str = ""

    @property
    def name(self) -> str:
        """The handler's name, or that of the entry that cannot be loaded."""
        return self.entry if self.handler is None else self.handler.name


def list_entries(named: Sequence[str]) -> list[CatalogEntry]:
    """Return the named entries, in that order, then the other installed ones, by name."""
    found: list[CatalogEntry] = []
    for entry in dict.fromkeys(named):
        found += _load_entry(entry, found, is_named=True)
    for entry in registry.installed_names():
        if entry not in named:
            found += _load_entry(entry, found, is_named=False)
    return found


def find_handler(name: str, named: Sequence[str], *, source: str | None = None) -> Handler:
    """Return the handler called `name`, from `source` (an entry or a module) or from all that `list_entries` returns.

    Raise HandlerError, which lists the known handlers.
    """
    return select_handler(name, list_entries(named)) if source is None else load_declared(source, name)


def load_declared(source: str, name: str) -> Handler:
    """Return the handler called `name` that an entry or a module declares. Raise HandlerError."""
    handlers = {handler.name: handler for handler in registry.load([source])}
    if name not in handlers:
        meant = did_you_mean(name, handlers)
        raise HandlerError(f"{source!r} declares no handler {name!r}{meant}; it declares: {', '.join(handlers)}")
    return handlers[name]


def select_handler(name: str, found: Sequence[CatalogEntry]) -> Handler:
    """Return the handler called `name`, or the only one of the entry of that name. Raise HandlerError."""
    for one in found:
        if one.handler is not None and one.name == name:
            return one.handler
    for one in found:
        if one.entry == name:  # broken, or a module whose handlers are called otherwise
            if one.problem:
                raise HandlerError(f"{name!r} cannot be used: {one.problem}")
            return _load_only_handler(name)
    known = sorted(one.name for one in found if one.handler is not None)
    broken = "".join(
        f". Of CALLBACKS_HANDLERS {one.entry!r}: {one.problem}" for one in found if one.is_named and one.handler is None
    )
    raise HandlerError(
        f"no handler is called {name!r}{did_you_mean(name, known)}; there are: {', '.join(known) or 'none'}, and with "
        f"--from MODULE those of a module of yours{broken}"
    )


def _load_only_handler(entry: str) -> Handler:
    handlers = registry.load([entry])
    if len(handlers) > 1:
        names = ", ".join(handler.name for handler in handlers)
        raise HandlerError(f"{entry!r} declares several handlers, name one of them: {names}")
    return handlers[0]


def _load_entry(entry: str, before: Sequence[CatalogEntry], *, is_named: bool) -> Iterator[CatalogEntry]:
    package = _package(entry)
    try:
        handlers = registry.load([entry])
    except HandlerError as exc:
        yield CatalogEntry(entry=entry, is_named=is_named, handler=None, package=package, problem=exc.problem)
        return
    others = {one.handler.name: one.handler for one in before if one.handler is not None and one.is_named}
    for handler in handlers:
        other = others.get(handler.name)
        if other is None:
            yield CatalogEntry(entry=entry, is_named=is_named, handler=handler, package=package)
        elif other is not handler and is_named:
            problem = f"{handler.location} and {other.location} are both named {handler.name!r}"
            yield CatalogEntry(entry=entry, is_named=is_named, handler=None, package=package, problem=problem)


def _package(entry: str) -> str:
    distributions = [point.dist for point in entry_points(group=registry.GROUP, name=entry)]
    return ", ".join(f"{dist.name} {dist.version}" for dist in distributions if dist is not None)
