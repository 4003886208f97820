"""What `callbacks dev` has to know of the handlers, found by a process of its own, as a module is imported only once.

So each check sees the modules as they are now, and no import of a handler can harm `callbacks dev` itself.
"""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import msgspec
from msgspec import Struct

from callbacks import launcher, own_packages
from callbacks.cli import child_processes
from callbacks.cli.checks.handlers import check_handlers
from callbacks.cli.checks.result import CheckResult
from callbacks.cli.checks.result import show as show_result
from shared import settings
from shared.errors import ConfigurationError
from workers import registry
from workers.declaration import Handler

_LIBRARIES: Final = frozenset(("site-packages", "dist-packages"))


class HandlersReport(Struct, frozen=True):
    """What `callbacks check` finds of the handlers, their names, and the folders with the code of the user's ones."""

    findings: tuple[CheckResult, ...]
    names: tuple[str, ...] = ()
    folders: tuple[str, ...] = ()

    @property
    def is_usable(self) -> bool:
        """Whether nothing is wrong; advice may remain."""
        return all(finding.state != "wrong" for finding in self.findings)


def run(environment: Mapping[str, str], *, file: Path) -> HandlersReport:
    """Return what the handlers are now, as workers with this environment find them; `file` is written on the way.

    What their modules print goes where our output goes.
    """
    file.unlink(missing_ok=True)
    process = child_processes.start(
        launcher.command("callbacks.cli.handlers_check", str(file.absolute())), environment=environment
    )
    try:
        code = process.wait()
    finally:
        child_processes.stop(process)
    try:
        return msgspec.json.decode(file.read_bytes(), type=HandlersReport)
    except (OSError, msgspec.MsgspecError):
        what = f"CALLBACKS_HANDLERS: a module ended the process that imported it, with exit code {code}"
        return HandlersReport((CheckResult("wrong", what, "A module must let its importer continue."),))


def show(report: HandlersReport, *, remedies: bool = True) -> None:
    """Print what is wrong, and advice, as `callbacks check` does, with or without what to do about what is wrong."""
    for finding in report.findings:
        if finding.state == "wrong" and not remedies:
            show_result(CheckResult(finding.state, finding.what))
        elif finding.state != "ok":
            show_result(finding)


def main() -> None:
    """Check the handlers of this process's environment, and write the report to the file in the argument."""
    try:
        loaded = settings.load(process="command")
        findings = tuple(check_handlers(loaded))
        found = registry.load_each(loaded.handlers, with_settings=False).handlers.values()
        handlers = [handler for each in found for handler in each]
        report = HandlersReport(findings, tuple(handler.name for handler in handlers), _code_folders(handlers))
    except ConfigurationError as exc:  # a handler's author may raise it anywhere
        report = HandlersReport(tuple(CheckResult("wrong", problem) for problem in exc.problems))
    Path(sys.argv[1]).write_bytes(msgspec.json.encode(report))


def _code_folders(handlers: Sequence[Handler]) -> tuple[str, ...]:
    """Return the folders of the packages and modules that have handlers, without installed ones and our own.

    What is below the current folder stands for all of it.
    """
    found: set[str] = set()
    here = Path.cwd()
    for handler in handlers:
        name = handler.function.__module__.partition(".")[0]
        top = sys.modules.get(name)
        paths = [*getattr(top, "__path__", ())] or [str(Path(getattr(top, "__file__", None) or ".").parent)]
        if name not in own_packages.NAMES and not _LIBRARIES.intersection(Path(paths[0]).parts):
            # A module in the current folder may use any other of the project, in whichever folder.
            found.update(str(here) if Path(path).is_relative_to(here) else path for path in paths)
    return tuple(sorted(found))
