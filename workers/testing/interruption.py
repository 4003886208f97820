"""Handlers that are interrupted at a chosen place, as a time-out does at any.

A time-out is HandlerTimeout raised at whatever line a `def` is at, or the cancellation of an `async def` at an `await`.
Here the place is chosen: the nth line of the handler's own file that is reached, each counted once, or the nth time
that it waits. Left alone are cleaning up (`finally`, `except`) and the `try` behind an acquired lock: a time-out there
is possible, but nobody can write a handler that survives it at each line.
"""

import ast
import asyncio
import linecache
import sys
import types
from collections.abc import Callable, Coroutine, Generator, Iterator
from dataclasses import replace
from typing import Any

from workers.declaration import Handler
from workers.signals import HandlerTimeout


class Interrupted:
    """A handler that is interrupted at its nth place (1 is the first); `was_interrupted` says whether it got there."""

    def __init__(self, handler: Handler, *, at: int) -> None:
        self._inner = handler
        self._at = at
        self.was_interrupted = False
        self.handler = replace(handler, function=self._cancelled if handler.is_async else self._timed_out)

    def _timed_out(self, argument: Any) -> Any:
        file = self._inner.function.__code__.co_filename
        uninterrupted = _uninterrupted_lines(file)
        seen: set[int] = set()

        def in_file(frame: types.FrameType, event: str, _: Any) -> Any:
            if event == "line" and frame.f_lineno not in seen | uninterrupted and not self.was_interrupted:
                seen.add(frame.f_lineno)
                if len(seen) == self._at:
                    self.was_interrupted = True
                    raise HandlerTimeout(self._inner.timeout_seconds)
            return in_file

        def in_any(frame: types.FrameType, _event: str, _: Any) -> Any:
            return in_file if frame.f_code.co_filename == file else None

        outer = sys.gettrace()
        sys.settrace(in_any)
        try:
            return self._inner.function(argument)
        finally:
            sys.settrace(outer)

    async def _cancelled(self, argument: Any) -> Any:
        return await self._run_until_interrupted(self._inner.function(argument))

    @types.coroutine
    def _run_until_interrupted(self, call: Coroutine[Any, Any, Any]) -> Generator[Any, Any, Any]:
        """Run `call`, and cancel its task when it begins to wait for the nth time."""
        step: Callable[[Any], Any] = call.send
        given: Any = None
        waited = 0
        while True:
            try:
                awaited = step(given)
            except StopIteration as ended:
                return ended.value
            waited += 1
            if waited == self._at:
                self.was_interrupted = True
                task = asyncio.current_task()
                if task is not None:
                    task.cancel()
            try:
                given = yield awaited
                step = call.send
            except BaseException as exc:  # noqa: BLE001 # handed on
                given, step = exc, call.throw


def can_be_interrupted(handler: Handler) -> bool:
    """Tell whether its places are known: of an `async def` always, of a `def` where its source is."""
    return handler.is_async or bool(linecache.getlines(handler.function.__code__.co_filename))


def _uninterrupted_lines(file: str) -> frozenset[int]:
    tree = ast.parse("".join(linecache.getlines(file)))
    return frozenset(line for node in ast.walk(tree) for line in _cleanup_lines(node))


def _cleanup_lines(node: ast.AST) -> Iterator[int]:
    if isinstance(node, ast.Try):
        yield node.lineno
        for statement in node.finalbody:
            yield from range(statement.lineno, (statement.end_lineno or statement.lineno) + 1)
    elif isinstance(node, ast.ExceptHandler):
        yield from range(node.lineno, (node.end_lineno or node.lineno) + 1)
    # A function's own line is only where a generator or a coroutine begins.
    elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        yield node.lineno
