"""Where in an author's module an exception was raised: the line that its author can correct, not one of a library."""

import sysconfig
from pathlib import Path
from typing import Final

from callbacks import own_packages

_LIBRARY_FOLDERS: Final = frozenset(("site-packages", "dist-packages"))
_STANDARD_LIBRARY: Final = Path(sysconfig.get_path("stdlib"))


def raised_at(error: BaseException, module: str) -> str:
    """Return " (orders.py, line 8)", as a SyntaxError's own message ends; "" if it says so itself or nobody knows.

    It is the last line that ran of the package of `module`, or of another one that is not an installed library.
    """
    if isinstance(error, SyntaxError) and error.filename and error.lineno and Path(error.filename).is_file():
        return ""
    found = ""
    package = module.partition(".")[0]
    step = error.__traceback__
    while step is not None:
        path = step.tb_frame.f_code.co_filename
        owner = str(step.tb_frame.f_globals.get("__name__", "")).partition(".")[0]
        if not path.startswith("<") and (owner == package or not _is_library(Path(path), owner)):
            found = f" ({Path(path).name}, line {step.tb_lineno})"
        step = step.tb_next
    return found


def _is_library(path: Path, owner: str) -> bool:
    return (
        owner in own_packages.NAMES
        or not _LIBRARY_FOLDERS.isdisjoint(path.parts)
        or path.is_relative_to(_STANDARD_LIBRARY)
    )
