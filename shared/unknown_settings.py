"""Variables that look like settings of this service and are not: otherwise a misspelt setting would be ignored.

A name counts if it begins with CALLBACK, or nearly so. Those that Kubernetes makes for a Service called `callbacks…` do
not count.
"""

import os
import re
from collections.abc import Iterable, Mapping
from typing import Final

import msgspec

from callbacks import service_links
from shared import did_you_mean, settings
from shared.structured_log import get_logger

log = get_logger("callbacks.settings")

# What a variable of the handler `forward` ends with: tests/unit/test_unknown_settings.py holds it against the handler's
# own table, which only workers may import.
FORWARD_OPTIONS: Final = (
    "URL",
    "SECRETS",
    "SECRETS_FILE",
    "KINDS",
    "STATUSES",
    "CHANNELS",
    "SOURCES",
    "FINAL",
    "OPT_OUTS",
    "FORGET",
    "CA",
    "ALLOW_PRIVATE",
    "TIMEOUT_SECONDS",
    "CONCURRENCY",
    "HEADERS",
)
_FORWARD: Final = "CALLBACKS_FORWARD_"
_FORWARD_NAME: Final = re.compile(rf"{_FORWARD}(?:[A-Z0-9][A-Z0-9_]{{0,54}}?_)?(?:{'|'.join(FORWARD_OPTIONS)})")
_NEARLY_OURS: Final = re.compile(r"CALL?_?BACKS?_.*", re.IGNORECASE)
_PREFIX: Final = re.compile(r"CALL?_?BACKS?_(?:FORWARD_)?", re.IGNORECASE)


class UnknownSetting(msgspec.Struct, frozen=True):
    """A variable that is not a setting, and the setting that was probably meant, or None."""

    variable: str
    meant: str | None

    def __str__(self) -> str:
        """Return one sentence, and one that says what to do."""
        if self.meant is None:
            return f"{self.variable} is not a setting of this service. Remove it, or rename it if it is yours"
        return f"{self.variable} is not a setting and is ignored. Did you mean {self.meant}?"


def find(environ: Mapping[str, str] | None = None) -> list[UnknownSetting]:
    """Return the variables of `environ` (None: this process's environment) that are misspelt settings, by name."""
    environ = os.environ if environ is None else environ
    known = [row.variable for row in settings.table_rows()]
    found: list[UnknownSetting] = []
    for variable in sorted(environ):
        if (
            not _NEARLY_OURS.fullmatch(variable)
            or variable in known
            or service_links.is_service_link(variable, environ)
        ):
            continue
        if not variable.startswith(_FORWARD):
            found.append(UnknownSetting(variable, _closest(variable, known)))
        elif not _FORWARD_NAME.fullmatch(variable):
            found.append(
                UnknownSetting(variable, _closest(variable, [_FORWARD + option for option in FORWARD_OPTIONS]))
            )
    return found


def _closest(variable: str, known: Iterable[str]) -> str | None:
    # Without the beginnings that they share, which would make any two names alike.
    names = {_PREFIX.sub("", name): name for name in known}
    found = did_you_mean.closest(_PREFIX.sub("", variable), names)
    return None if found is None else names[found]


def log_warnings() -> None:
    """Write a warning to the log for each variable of this process's environment that is a misspelt setting."""
    for setting in find():
        log.warning("setting_unknown", variable=setting.variable, problem=setting)
