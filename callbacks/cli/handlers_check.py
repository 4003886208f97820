"""What `callbacks dev` has to know of the handlers, found by a process of its own, as a module is imported only once.

So each check sees the modules as they are now, and no import of a handler can harm `callbacks dev` itself.
"""

import sys
from collections.abc import Mapping
from pathlib import Path

import msgspec
from msgspec import Struct

from callbacks import launcher
from callbacks.cli import check, child_processes
from callbacks.cli.check import CheckResult
from shared import settings
from shared.errors import CallbacksError, ConfigurationError


class HandlersReport(Struct, frozen=True):
    """What `callbacks check` finds of the handlers."""

    findings: tuple[CheckResult, ...]

    @property
    def is_usable(self) -> bool:
        """Whether nothing is wrong; advice may remain."""
        return all(finding.state != "wrong" for finding in self.findings)


def run(environment: Mapping[str, str], *, file: Path) -> HandlersReport:
    """Return what the handlers are now, as workers with this environment find them; `file` is written on the way.

    What their modules print goes where our output goes. Raises CallbacksError if the process ends early.
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
    except (OSError, msgspec.MsgspecError) as exc:
        raise CallbacksError(
            f"a module of CALLBACKS_HANDLERS ended the process that imported it, with exit code {code}: "
            "it must not do that"
        ) from exc


def show(report: HandlersReport) -> None:
    """Print what is wrong, and advice, as `callbacks check` does."""
    for finding in report.findings:
        if finding.state != "ok":
            check.show(finding)


def main() -> None:
    """Check the handlers of this process's environment, and write the report to the file in the argument."""
    try:
        findings = tuple(check.find_handlers_problems(settings.load()))
    except ConfigurationError as exc:  # a handler's author may raise it anywhere
        findings = tuple(CheckResult("wrong", problem) for problem in exc.problems)
    Path(sys.argv[1]).write_bytes(msgspec.json.encode(HandlersReport(findings)))
