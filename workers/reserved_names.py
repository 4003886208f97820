"""The error of a handler's module that imports a module of its project, and gets one of the service with the same name.

In the service's processes the names of its packages are reserved (`callbacks.own_packages`). A project may have modules
with these names, but no handler can import them: it would get the service's, at once or during a call.
"""

import ast
import importlib.util
import sys
from collections.abc import Collection, Iterator
from pathlib import Path
from types import ModuleType
from typing import Final

from callbacks import own_packages

# What handlers import from the service. Any other import of a reserved name means a module of the project.
_PUBLIC: Final = "callbacks"


def check_entry(entry: str) -> str:
    """Return what is wrong with an entry of CALLBACKS_HANDLERS that means a module of a reserved name, or ""."""
    name = entry.partition(".")[0]
    foreign = _find_foreign(name)
    return "" if foreign is None or (_is_found(entry) and entry != name) else _problem("", name, foreign)


def explain_error(error: BaseException) -> str:
    """Return what is wrong if a reserved name made the import of a handler fail; "" if something else did."""
    if isinstance(error, ImportError):
        wanted = error.name or ""
    elif isinstance(error, AttributeError) and isinstance(error.obj, ModuleType):
        wanted = error.obj.__name__
    else:
        return ""
    name = wanted.partition(".")[0]
    foreign = _find_foreign(name)
    return "" if foreign is None else _problem(f"{error}: ", name, foreign)


def check_imports(before: Collection[str]) -> str:
    """Return what is wrong with the modules of the project that were imported since `before`; "" if nothing.

    Their source is read, because an import inside a function has not run yet.
    """
    foreign_paths = {name: foreign for name in own_packages.NAMES if (foreign := _find_foreign(name)) is not None}
    if not foreign_paths:
        return ""
    for name in sys.modules.keys() - set(before):
        path = Path(getattr(sys.modules[name], "__file__", None) or "")
        if path.suffix != ".py" or not _is_in_project(path, foreign_paths.values()):
            continue
        for line, imported in _own_imports(path, foreign_paths):
            top = imported.partition(".")[0]
            return _problem(f"{path}, line {line}, imports {imported!r}: ", top, foreign_paths[top])
    return ""


def _problem(where: str, name: str, foreign: Path) -> str:
    return (
        f"{where}the name {name!r} is reserved for this service, so a handler cannot import {foreign}: "
        "rename it, or move it into a package with another name"
    )


def _find_foreign(name: str) -> Path | None:
    return own_packages.find_foreign(name) if name in own_packages.NAMES else None


def _is_in_project(path: Path, foreign_paths: Collection[Path]) -> bool:
    """Return whether a module is in a project that has modules with reserved names, and not an installed library."""
    if "site-packages" in path.parts:
        return False
    return any(path.absolute().is_relative_to(foreign.parent) for foreign in foreign_paths)


def _own_imports(path: Path, names: Collection[str]) -> Iterator[tuple[int, str]]:
    """Yield the imports of a source file, by line, that mean a module of the project with a reserved name."""
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, ast.Import):
            wanted = [alias.name for alias in node.names if alias.name != _PUBLIC]
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            wanted = [node.module]
            if node.module == _PUBLIC:
                wanted = [f"{_PUBLIC}.{alias.name}" for alias in node.names if not _is_public(alias.name)]
        else:
            continue
        for name in wanted:
            top = name.partition(".")[0]
            if top in names and not (top == _PUBLIC and _is_found(name)):
                yield node.lineno, name


def _is_public(name: str) -> bool:
    return hasattr(sys.modules.get(_PUBLIC), name)


def _is_found(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except (ImportError, ValueError):
        return False
