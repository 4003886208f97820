"""`callbacks new NAME`: a folder with a handler, its test and what runs both.

Exit 1 if the folder cannot be written or has files, 2 if the name cannot be used.
"""

import importlib.util
import keyword
import os
import re
import secrets
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Final

import click

from callbacks import own_packages
from callbacks.cli import new_files
from callbacks.cli.command import Command
from workers import registry

_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*")
# A name is a part of a queue's name (see `workers.declaration`).
_MAX_CHARACTERS: Final = 64
# The file holds a secret.
_SECRET_FILES: Final = frozenset((".env",))


@click.command(cls=Command)
@click.argument("name", metavar="NAME")
def new(*, name: str) -> None:
    """Write a new folder NAME with a handler to start from.

    It has the handler's module, its test, the settings (.env) with a new token, and a Procfile. A dash in NAME becomes
    an underscore in the name of the module.
    """
    module = name.replace("-", "_").lower()
    if problem := _find_problem(name, module):
        raise click.BadParameter(problem, param_hint="NAME")
    folder = Path(name)
    files = new_files.make(name=name, module=module, token=secrets.token_urlsafe(24))
    try:
        folder.mkdir(exist_ok=True)
        if any(folder.iterdir()):
            raise click.ClickException(f"{folder} has files already: choose another name, or remove them.")
        for file, text in files.items():
            _write(folder / file, text)
    except FileExistsError:
        raise click.ClickException(f"{folder} is a file: choose another name, or remove it.") from None
    except OSError as exc:
        raise click.ClickException(f"{exc.filename or folder} cannot be written: {exc.strerror}.") from exc
    click.echo(_describe_next_steps(folder, files))


def _find_problem(name: str, module: str) -> str:
    """Return why a handler's module cannot have this name, and what to do; "" if it can."""
    if not _NAME.fullmatch(name):
        return (
            f"{name!r} cannot be the name of a Python module: use letters, digits and underscores, and begin with "
            "a letter."
        )
    if len(module) > _MAX_CHARACTERS:
        return f"{name!r} is too long: use at most {_MAX_CHARACTERS} characters."
    other = f"choose another name, such as my_{module}."
    if keyword.iskeyword(module):
        return f"{name!r} is a keyword of Python: {other}"
    if module in own_packages.NAMES:
        return f"{name!r} is a package of this service, so Python would not find your module: {other}"
    if module in registry.installed_names():
        return f"{name!r} is an installed handler, which CALLBACKS_HANDLERS={module} would mean: {other}"
    if module == "conftest" or _is_installed(module):
        return f"{name!r} is an installed module of Python, which yours would be confused with: {other}"
    return ""


def _is_installed(module: str) -> bool:
    if module in sys.stdlib_module_names:
        return True
    try:
        spec = importlib.util.find_spec(module)
    except ValueError:  # imported, but without a specification
        return True
    # A folder without __init__.py, which any module has precedence over, has no origin.
    return spec is not None and spec.origin is not None


def _write(file: Path, text: str) -> None:
    mode = 0o600 if file.name in _SECRET_FILES else 0o666
    with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "w", encoding="utf-8") as opened:
        opened.write(text)


def _describe_next_steps(folder: Path, files: Iterable[str]) -> str:
    return "\n".join(
        (
            f"{folder} has {', '.join(files)}. Test it, and run the whole service on this machine:\n",
            f"  cd {folder}",
            "  python -m pytest",
            "  callbacks dev\n",
            "Send it an event, from another terminal in the same folder:\n",
            "  callbacks simulate --sample undelivered",
        )
    )
