"""All settings: one frozen object read from the environment, and the table that explains it.

The documented table, `callbacks check` and the errors are made from the fields in `shared.setting_groups`. A wrong
value stops the start with the variable's name and what is wrong. A secret is never shown, not even in a repr.
"""

import dataclasses
import os
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias

from callbacks import service_links
from shared.errors import ConfigurationError
from shared.setting_groups.built_in_handlers import HandlerSettings
from shared.setting_groups.notices import NoticeSettings
from shared.setting_groups.operators import OperatorSettings
from shared.setting_groups.processes import ProcessSettings
from shared.setting_groups.retention import RetentionSettings
from shared.setting_groups.setting import Process, Setting
from shared.setting_groups.storage import StorageSettings
from shared.setting_groups.web import WebSettings

Variable: TypeAlias = Literal["REDIS_URL", "CALLBACKS_TOKENS"]


@dataclass(frozen=True, kw_only=True)
class Settings(
    WebSettings,
    StorageSettings,
    ProcessSettings,
    HandlerSettings,
    RetentionSettings,
    OperatorSettings,
    NoticeSettings,
):
    """The settings of the environment, checked. Sizes are in bytes, durations in seconds."""


@dataclass(frozen=True, slots=True)
class SettingRow:
    """A row of the table of settings."""

    variable: str
    default: str
    help: str


def _fields(group: type[Any]) -> dict[str, Setting]:
    return {field.name: field.metadata["setting"] for field in dataclasses.fields(group)}


# In the order of the documentation.
_GROUPS: Final[tuple[type[Any], ...]] = Settings.__bases__
# Of each field of the settings.
BY_FIELD: Final[Mapping[str, Setting]] = {
    name: setting for group in _GROUPS for name, setting in _fields(group).items()
}


def grouped_rows() -> Iterator[tuple[str, tuple[SettingRow, ...]]]:
    """Yield the title and the rows of each group, as the documentation shows them."""
    for group in _GROUPS:
        rows: list[SettingRow] = []
        for setting in _fields(group).values():
            rows.append(SettingRow(setting.variable, setting.shown_default, setting.help))
            if setting.from_file:
                rows.append(SettingRow(f"{setting.variable}_FILE", "none", f"file that holds `{setting.variable}`"))
        yield group.title, tuple(rows)


def table_rows() -> tuple[SettingRow, ...]:
    """Return every setting as the documentation shows it."""
    return tuple(row for _, rows in grouped_rows() for row in rows)


def load(
    environ: Mapping[str, str] | None = None,
    *,
    process: Process | None = None,
    needs: tuple[Variable, ...] = (),
    unused: Collection[str] = (),
) -> Settings:
    """Return the settings of `environ` (None: this process's environment).

    `needs` names the variables that must be set; the first of CALLBACKS_CELLS will do as REDIS_URL where both are read.
    A wrong one has its default if `process` (None: the caller reads all) does not read it, or if it is in `unused`.
    Raise ConfigurationError, which names all mistakes at once.
    """
    environ = os.environ if environ is None else environ
    read = {name for name, each in BY_FIELD.items() if each.is_read_by(process) and each.variable not in unused}
    values: dict[str, Any] = {}
    problems: list[str] = []
    missing: dict[str, str] = {}
    for name, setting in BY_FIELD.items():
        values[name] = setting.default_value
        try:
            given = _read_variable(environ, setting)
            if given is not None and (given.strip() or setting.may_be_empty):
                values[name] = _parse(setting, given.strip())
            elif setting.variable in needs:
                missing[name] = f"{setting.variable} is not set. Its meaning: {setting.help}"
        except ValueError as exc:
            if name in read:
                problems.append(str(exc))
    if "redis_url" in missing and values["cells"] and "cells" in read:
        del missing["redis_url"]
        values["redis_url"] = values["cells"][0].redis_url
    problems.extend(missing.values())
    if problems:
        raise ConfigurationError(problems)
    return Settings(**values)


def _parse(setting: Setting, text: str) -> Any:
    try:
        return setting.parse(text)
    except ValueError as exc:
        raise ValueError(f"{setting.variable}: {exc}") from exc


def _read_variable(environ: Mapping[str, str], setting: Setting) -> str | None:
    """Return the value of a variable, or of its file. Raise ValueError, whose message has no secret."""
    variable = setting.variable
    given = environ.get(variable)
    if given is not None and service_links.is_service_link(variable, environ):
        given = None
    file = environ.get(f"{variable}_FILE", "").strip() if setting.from_file else ""
    if not file:
        return given
    if given is not None and given.strip():
        raise ValueError(f"{variable} and {variable}_FILE are both set; remove one of them")
    try:
        content = Path(file).read_text(encoding="utf-8").strip()
    except OSError as exc:
        raise ValueError(f"{variable}_FILE: {file} cannot be read: {exc.strerror}") from exc
    except UnicodeDecodeError:
        # Not chained: it quotes the bytes that it could not read.
        raise ValueError(f"{variable}_FILE: {file} is not text in UTF-8") from None
    if not content:
        raise ValueError(f"{variable}_FILE: {file} is empty")
    return content
