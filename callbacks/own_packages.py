"""Makes the service's processes import the service's own packages, whose names are common words.

A project may have a `workers/` or a `shared.py` too, in the current folder or on PYTHONPATH. So in the service's
processes these names are looked up next to this package first. Everything else is imported from sys.path as usual.
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
        # Submodules are found by the path of their package.
        return PathFinder.find_spec(fullname, [ROOT]) if fullname in NAMES else None


def protect() -> None:
    """Import the service's packages first from now on. Calling it again has no effect."""
    if _Finder not in sys.meta_path:
        sys.meta_path.insert(0, _Finder)


def find_foreign(name: str) -> Path | None:
    """Return the path of another package or module called `name` on sys.path, or None."""
    for entry in sys.path:
        folder = Path(entry).absolute()
        # A second copy of the service, such as its repository, does not count.
        if str(folder) == ROOT or (folder / "callbacks" / Path(__file__).name).exists():
            continue
        spec = PathFinder.find_spec(name, [str(folder)])
        if spec is not None:
            return folder / name if spec.submodule_search_locations is not None else Path(spec.origin or folder)
    return None
