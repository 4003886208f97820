"""Breaking the background loops of real processes: each raises while a file of its name stands in a folder.

`environment` is what a process is started with: Python itself then runs `install` before anything else, in workers
that a supervisor starts too. A file that holds "once" is removed as the loop raises.
"""

import ast
import asyncio
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final

REPOSITORY: Final = Path(__file__).parents[1]
_VARIABLE: Final = "BROKEN_LOOPS_FOLDER"
_PACKAGES: Final = ("callbacks", "ingest", "shared", "workers")
MESSAGE: Final = "35699000001"
# Instead of ten, so that the tests need not wait for what was broken for long.
_MAX_PAUSE_SECONDS: Final = 1.0


def names() -> set[str]:
    """Return the names of all background loops of the product, as its code has them.

    A loop is started by its name; a further task of maintenance is named by its key in a dictionary.
    """
    nodes = [
        node
        for package in _PACKAGES
        for path in (REPOSITORY / package).rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
    ]
    keys = {
        key.value for node in nodes if isinstance(node, ast.Dict) for key in node.keys if isinstance(key, ast.Constant)
    }
    tasks = {key for key in keys if isinstance(key, str) and key.startswith("maintenance_")}
    return tasks | {
        node.args[0].value
        for node in nodes
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr in ("start_task", "make_thread", "loop", "attempt")
        and node.args
        and isinstance(node.args[0], ast.Constant)
        and isinstance(node.args[0].value, str)
    }


class Breaker:
    """The folder in which a test says what is broken, and finds what there is."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        for part in ("broken", "seen", "site"):
            (folder / part).mkdir(parents=True)
        (folder / "site" / "sitecustomize.py").write_text(
            "from tests import background_faults\nbackground_faults.install()\n"
        )

    @property
    def environment(self) -> dict[str, str]:
        return {_VARIABLE: str(self._folder), "PYTHONPATH": f"{self._folder / 'site'}{os.pathsep}{REPOSITORY}"}

    def seen(self) -> set[str]:
        """Return the loops that some process has."""
        return {path.name for path in (self._folder / "seen").iterdir()}

    def break_always(self, *loops: str) -> None:
        for loop in loops:
            (self._folder / "broken" / loop).write_text("always")

    def break_once(self, loop: str) -> None:
        (self._folder / "broken" / loop).write_text("once")

    def is_broken(self, loop: str) -> bool:
        return (self._folder / "broken" / loop).exists()

    def repair(self) -> None:
        for path in (self._folder / "broken").iterdir():
            path.unlink(missing_ok=True)


def install() -> None:
    """Break the loops of this process, if it was started with `environment`."""
    if _VARIABLE not in os.environ:
        return
    from shared.background import Background, Loop  # noqa: PLC0415 # only where it is asked for

    folder = Path(os.environ[_VARIABLE])
    make, task, attempt = Background.loop, Background.start_task, Loop.attempt

    def recorded(self: Background, name: str, **options: Any) -> Loop:
        (folder / "seen" / name).touch()
        pause_seconds = min(options.pop("max_pause_seconds", _MAX_PAUSE_SECONDS), _MAX_PAUSE_SECONDS)
        return make(self, name, max_pause_seconds=pause_seconds, **options)

    def broken_task(self: Background, name: str, run: Callable[[], Awaitable[None]], **options: Any) -> Any:
        async def running() -> None:
            working = asyncio.ensure_future(run())
            try:
                while not working.done():
                    _strike(folder, name)
                    await asyncio.wait([working], timeout=0.05)
                working.result()
            finally:
                working.cancel()
                await asyncio.gather(working, return_exceptions=True)

        return task(self, name, running, **options)

    def broken_attempt(self: Loop, step: Callable[[], object], **options: Any) -> float:
        def round_of_it() -> None:
            _strike(folder, self.name)
            step()

        return attempt(self, round_of_it, **options)

    Background.loop = recorded  # type: ignore[method-assign]
    Background.start_task = broken_task  # type: ignore[method-assign]
    Loop.attempt = broken_attempt  # type: ignore[method-assign]


def _strike(folder: Path, name: str) -> None:
    path = folder / "broken" / name
    try:
        how = path.read_text()
    except OSError:
        return
    if how == "once":
        path.unlink(missing_ok=True)
    raise RuntimeError(MESSAGE)
