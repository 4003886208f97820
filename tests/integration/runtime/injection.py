"""Exceptions injected into the service's own functions: whenever one has a certain item in its arguments, it raises.

Which functions those are is seen, not believed: a run that goes well is traced. So a new function on the way of an item
is noticed.
"""

import functools
import inspect
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import CodeType, FrameType, ModuleType
from typing import Any, Final

from msgspec import Raw, Struct, structs

from shared.batches import Quarantined
from shared.stored_events import StoredEvents
from workers.expand.fan_out import Chunk, ChunkItem
from workers.runtime.claim import ClaimedJob
from workers.runtime.settlement import NewFailure

# Stands in the one item that cannot be worked on, and in no other.
MARK: Final = "the-one-in-a-thousand"
_PACKAGES: Final = ("shared", "workers")
# What carries the item away to where it is set apart has to work. A whole job is not the item.
_APART: Final = (NewFailure, Quarantined, ClaimedJob)


def holds(value: Any) -> bool:
    """Return whether the item is in `value`: in a text, a container or a struct; not set apart, not as a job.

    Nor as the callback of which an event was a part.
    """
    if isinstance(value, str):
        return MARK in value
    if isinstance(value, bytes | Raw):
        return MARK.encode() in bytes(value)
    if isinstance(value, _APART):
        return False
    if isinstance(value, StoredEvents):
        return holds(value.decoded)
    if isinstance(value, ChunkItem):
        return holds(value.read)
    if isinstance(value, Struct):
        return any(holds(part) for part in structs.astuple(value))
    if isinstance(value, Chunk):
        return holds(value.items)
    if isinstance(value, dict):
        return any(holds(part) for part in value.values())
    if isinstance(value, list | tuple | frozenset | set):
        return any(holds(part) for part in value)
    return False


def functions_with_the_item(run: Callable[[], object]) -> set[str]:
    """Run, and return the names of the functions of ours that had the item in their arguments, as module:qualname."""
    seen: dict[CodeType, bool] = {}

    def profile(frame: FrameType, event: str, _argument: object) -> None:
        code = frame.f_code
        if event != "call" or seen.get(code) or code.co_name.startswith("<"):
            return
        if not str(frame.f_globals.get("__name__", "")).startswith(_PACKAGES):
            return
        given = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount + bool(code.co_flags & inspect.CO_VARARGS)]
        arguments = [frame.f_locals[name] for name in given if name in frame.f_locals and name != "self"]
        seen[code] = any(map(holds, arguments))

    threading.setprofile(profile)
    sys.setprofile(profile)
    try:
        run()
    finally:
        sys.setprofile(None)
        threading.setprofile(None)
    codes = {code for code, had in seen.items() if had}
    return {name for name, function in _functions() if function.__code__ in codes}


@contextmanager
def raising(name: str, error: type[Exception]) -> Iterator[None]:
    """Have that function raise whenever it has the item in its arguments, wherever it is called from."""
    original = dict(_functions())[name]

    def refuse(arguments: tuple[Any, ...], options: dict[str, Any]) -> None:
        if any(map(holds, arguments)) or any(map(holds, options.values())):
            raise made(error)

    if inspect.iscoroutinefunction(original):

        @functools.wraps(original)
        async def wrapper(*arguments: Any, **options: Any) -> Any:
            refuse(arguments, options)
            return await original(*arguments, **options)
    else:

        @functools.wraps(original)
        def wrapper(*arguments: Any, **options: Any) -> Any:
            refuse(arguments, options)
            return original(*arguments, **options)

    attributes = list(_attributes_with(original))
    for owner, attribute, _ in attributes:
        setattr(owner, attribute, wrapper)
    try:
        yield
    finally:
        for owner, attribute, was in attributes:
            setattr(owner, attribute, was)


def made(error: type[Exception]) -> Exception:
    if error is UnicodeEncodeError:
        return UnicodeEncodeError("utf-8", "\ud800", 0, 1, "surrogates not allowed")
    return error("injected")


def _modules() -> list[ModuleType]:
    return [module for name, module in list(sys.modules.items()) if name.partition(".")[0] in _PACKAGES]


def _functions() -> Iterator[tuple[str, Any]]:
    for module in _modules():
        for name, value in list(vars(module).items()):
            if inspect.isfunction(value) and value.__module__ == module.__name__:
                yield f"{module.__name__}:{name}", value
            elif inspect.isclass(value) and value.__module__ == module.__name__:
                for method, defined in list(vars(value).items()):
                    if inspect.isfunction(defined):
                        yield f"{module.__name__}:{name}.{method}", defined


def _attributes_with(original: Any) -> Iterator[tuple[Any, str, Any]]:
    for module in _modules():
        for name, value in list(vars(module).items()):
            if value is original:
                yield module, name, value
            elif inspect.isclass(value) and value.__module__ == module.__name__:
                yield from ((value, key, found) for key, found in list(vars(value).items()) if found is original)
