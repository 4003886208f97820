"""Starts every process of the service so that it imports the service's own packages.

The command `callbacks` starts here. Child processes run this file and not `python -m`, which would search the current
folder and PYTHONPATH first. Importing this module is enough: a process started by multiprocessing (uvicorn's, or a
handler's own) imports its parent's main module and so finds the same packages.
"""

import sys
from importlib import import_module
from pathlib import Path
from typing import Final

if __package__ != "callbacks":  # run as a file: sys.path may have another `callbacks`, or none
    sys.path.insert(0, str(Path(__file__).absolute().parents[1]))
    own_packages = import_module("callbacks.own_packages")
    del sys.path[0]
else:
    from callbacks import own_packages

own_packages.protect()

_FILE: Final = str(Path(__file__).absolute())


def command(module: str, *arguments: str) -> list[str]:
    """Return the command line of a process that calls `main` of a module of the service."""
    # -P: do not search the folder of this file for modules.
    return [sys.executable, "-P", _FILE, module, *arguments]


def main() -> None:
    """Run the command `callbacks`."""
    import_module("callbacks.cli.main").main(prog_name="callbacks")


if __name__ == "__main__":
    del sys.argv[0]
    sys.exit(import_module(sys.argv[0]).main())
