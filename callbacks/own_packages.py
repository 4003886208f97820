"""The service's packages have ordinary names, and in its processes these names are its own.

A project may have a `workers/` or a `shared.py` too, in the current folder or on PYTHONPATH. So in the service's
processes these names are found where this package lies, before any path is searched. Whatever else is on the path stays
there.
"""

import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType
from typing import Final

NAMES: Final = frozenset(("callbacks", "ingest", "shared", "workers"))
# Absolute: the current folder may change.
ROOT: Final = str(Path(__file__).absolute().parents[1])


class _Finder:
    """Finds the service's packages, and nothing else."""

    @staticmethod
    def find_spec(
        fullname: str, _path: Sequence[str] | None = None, _target: ModuleType | None = None
    ) -> ModuleSpec | None:
        # What is in a package is found by that package's own path.
        return PathFinder.find_spec(fullname, [ROOT]) if fullname in NAMES else None


def protect() -> None:
    """Find the service's packages before anything else of their names, from now on. May be called twice."""
    if _Finder not in sys.meta_path:
        sys.meta_path.insert(0, _Finder)


def find_foreign(name: str) -> Path | None:
    """Return where the path has something else by the name of a package of the service, or None."""
    for entry in sys.path:
        folder = Path(entry).absolute()
        # A second copy of the service, such as its repository, is not somebody else's.
        if str(folder) == ROOT or (folder / "callbacks" / Path(__file__).name).exists():
            continue
        spec = PathFinder.find_spec(name, [str(folder)])
        if spec is not None:
            return folder / name if spec.submodule_search_locations is not None else Path(spec.origin or folder)
    return None
