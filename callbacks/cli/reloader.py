"""Loads the handlers of `callbacks dev --reload` again when their code changes.

Code that cannot work is reported, and the workers continue with the code that they have. Events that arrive meanwhile
wait in Redis.
"""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import click

from callbacks.cli import handlers_check
from callbacks.cli.handlers_check import HandlersReport
from callbacks.cli.service import Service
from callbacks.cli.source_files import SourceFiles

_CHECK_SECONDS: Final = 1.0
_MAX_NAMES: Final = 3


class Reloader:
    """Watches the folders of `handlers`; a report of the changed handlers is written to `file`.

    `wait` is called with it, and returns when the workers have loaded these handlers.
    """

    def __init__(
        self, service: Service, handlers: HandlersReport, *, file: Path, wait: Callable[[HandlersReport], None]
    ) -> None:
        self._service = service
        self._file = file
        self._wait = wait
        self._sources = SourceFiles(handlers.folders)
        self._check_at = time.monotonic() + _CHECK_SECONDS
        watched = ", ".join(sorted(self._sources.folders))
        click.echo(
            f"The handlers are loaded again when a .py file changes in {watched}.\n"
            if watched
            else "--reload has no effect: all handlers are installed ones.\n"
        )

    def reload_if_changed(self) -> None:
        """Once a second, find out whether a file has changed; if so, start new workers."""
        if time.monotonic() < self._check_at:
            return
        changed = self._sources.find_changes()
        if changed:
            self._reload(changed)
        self._check_at = time.monotonic() + _CHECK_SECONDS

    def _reload(self, changed: list[Path]) -> None:
        click.echo(f"{describe_files(changed)} changed")
        report = handlers_check.run(self._service.environment, file=self._file)
        # It says that workers stop, and here they do not.
        handlers_check.show(report, remedies=False)
        if not report.is_usable:
            click.echo("The workers continue with the code that they have, until you save a correction.")
            return
        self._sources.add_folders(report.folders)
        self._service.restart_workers()
        self._wait(report)
        click.echo("The handlers were loaded again.")


def describe_files(files: list[Path]) -> str:
    """Return the names of some files, and how many others there are."""
    names = ", ".join(file.name for file in files[:_MAX_NAMES])
    return names if len(files) <= _MAX_NAMES else f"{names} and {len(files) - _MAX_NAMES} more files"
