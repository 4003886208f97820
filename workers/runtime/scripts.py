"""Lua scripts as text. Each file is next to the module that runs it; several files together make one script."""

from importlib.resources import files
from typing import Final

_WORKERS: Final = files("workers")


def load(*names: str) -> str:
    """Return these files, in order, as one script: "expand/fan_out" is workers/expand/fan_out.lua.

    A name without a folder is one of workers/runtime. Raise FileNotFoundError.
    """
    paths = (name if "/" in name else f"runtime/{name}" for name in names)
    return "".join(_WORKERS.joinpath(f"{path}.lua").read_text(encoding="utf-8") for path in paths)
