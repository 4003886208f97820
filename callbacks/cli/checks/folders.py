"""Whether the processes can write to the folders in which they keep something."""

import shutil
from collections.abc import Iterator
from pathlib import Path

from callbacks.cli.checks.result import CheckResult
from shared import disk
from shared.counted import counted
from shared.settings import Settings


def check_spool(loaded: Settings) -> Iterator[CheckResult]:
    """Yield whether callbacks can wait on the disk while Redis is unavailable, and whether it has room for them."""
    if not loaded.spool_dir:
        yield CheckResult(
            "advice",
            "CALLBACKS_SPOOL_DIR is empty: while Redis is unavailable, callbacks are refused",
            "The gateway gives up after ten minutes: set it to a folder on a local disk that outlives the process.",
        )
        return
    folder = Path(loaded.spool_dir)
    if problem := disk.find_write_problem(folder):
        yield CheckResult(
            "wrong",
            f"CALLBACKS_SPOOL_DIR: {problem}",
            "Make it writable for the web process, or set another; while Redis is unavailable, callbacks are refused.",
        )
        return
    yield CheckResult("ok", f"callbacks wait in {folder} while Redis is unavailable")
    nearest = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    free_bytes = shutil.disk_usage(nearest).free
    if free_bytes < loaded.spool_max_bytes:
        yield CheckResult(
            "advice",
            f"CALLBACKS_SPOOL_MAX_BYTES is {loaded.spool_max_bytes}; its disk has {counted(free_bytes, 'byte')} left",
            "Free some space, or set it lower: a full disk may stop other programs too.",
        )


def check_run_dir(loaded: Settings) -> Iterator[CheckResult]:
    """Yield what is wrong with the folder of the completion journals."""
    if loaded.run_dir and (problem := disk.find_write_problem(Path(loaded.run_dir))):
        yield CheckResult(
            "advice",
            f"CALLBACKS_RUN_DIR: {problem}",
            "Make it writable for the workers, or set another; until then a killed worker's last events come twice.",
        )
