"""The Lua scripts (`workers/lua`), as text: one file, or several that make one script, in order."""

from importlib.resources import files
from typing import Final

_FOLDER: Final = files("workers") / "lua"


def text(*names: str) -> str:
    """Give the files of these names, which go without their ending, as one script. Raises FileNotFoundError."""
    return "".join((_FOLDER / f"{name}.lua").read_text() for name in names)
