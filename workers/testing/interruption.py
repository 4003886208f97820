"""Interrupts a handler at a chosen point, as a time-out may at any point.

A time-out raises HandlerTimeout at the current line of a `def`, or cancels an `async def` at an `await`. Here the point
is chosen: the nth line of the handler's own file that is reached, each counted once, or the nth wait. Cleanup
(`finally`, `except`) and the `try` after an acquired lock are not interrupted: a time-out is possible there too, but no
handler can survive it at each of these lines.
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
    """A handler that is interrupted at its nth point, from 1; `was_interrupted` says whether it got there."""

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
        """Run `call`, and cancel its task when it waits for the nth time."""
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
    """Return whether the handler can be interrupted: an `async def` always, a `def` if its source is available."""
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
    # The line of a `def` itself is reached only where a generator or a coroutine begins.
    elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        yield node.lineno
