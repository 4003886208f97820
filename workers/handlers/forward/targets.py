"""Reads the targets from the environment. Each target is a handler with a queue of its own, independent of the others.

    CALLBACKS_FORWARD_URL            the URL of the target of the handler `forward`
    CALLBACKS_FORWARD_CRM_URL        that of the handler `forward-crm`; any name of A-Z, 0-9 and _ may be used
    …_SECRETS, …_SECRETS_FILE        the secrets that sign requests: whsec_…, several for rotation; `none`: unsigned
    …_KINDS                          report, reply; both by default
    …_STATUSES, _CHANNELS, _SOURCES  only events with one of these
    …_FINAL                          true: only final reports; false: only reports that are not final
    …_OPT_OUTS                       true: only replies that say STOP, START or another keyword; false: only the others
    …_FORGET                         true: `callbacks forget NUMBER` posts the number, for the target to erase it too
    …_CA                             a file of the only trusted certificates, instead of the public ones
    …_ALLOW_PRIVATE                  true: the URL's address may be private
    …_TIMEOUT_SECONDS                limit for connecting and the response; 20
    …_CONCURRENCY                    requests in flight at most; 32
    …_HEADERS                        additional headers: Name=value, separated by commas

Any other variable that begins with CALLBACKS_FORWARD_ is reported as an error.
"""

import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import httpx

from callbacks import ReplyEvent, ReportEvent, service_links
from workers.handlers.forward import addresses, options, signature

PREFIX: Final = "CALLBACKS_FORWARD_"
TIMEOUT_SECONDS: Final = 20.0
CONCURRENCY: Final = 32

_VARIABLE: Final = re.compile(rf"{PREFIX}(?:([A-Z0-9][A-Z0-9_]{{0,54}}?)_)?({'|'.join(options.PARSERS)})")

# The options that say which events a target gets. All processes that know the handlers read them.
_HANDLER_OPTIONS: Final = (
    "KINDS",
    "STATUSES",
    "CHANNELS",
    "SOURCES",
    "FINAL",
    "OPT_OUTS",
    "FORGET",
    "TIMEOUT_SECONDS",
    "CONCURRENCY",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetOptions:
    """Which events one target gets and how many at once; checked values of the environment."""

    name: str
    kinds: tuple[options.EventClass, ...] = (ReportEvent, ReplyEvent)
    statuses: frozenset[str] | None = None
    channels: frozenset[str] | None = None
    sources: frozenset[str] | None = None
    final: bool | None = None
    opt_outs: bool | None = None
    forget: bool = False
    timeout_seconds: float = TIMEOUT_SECONDS
    concurrency: int = CONCURRENCY


@dataclass(frozen=True, slots=True, kw_only=True)
class Target(TargetOptions):
    """One target: all checked values of the environment."""

    url: httpx.URL = field(repr=False)
    secrets: tuple[str, ...] = field(repr=False)
    ca: Path | None = None
    allow_private: bool = False
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)

    @property
    def redacted_url(self) -> str:
        """The URL for logs and messages: without user, password, path (which may be secret) and query."""
        return f"{self.url.scheme}://{self.url.netloc.decode('ascii')}"


def read_targets(environ: Mapping[str, str]) -> tuple[Target, ...]:
    """Return the targets that `environ` describes, `forward` first.

    Raise ValueError with one line for each error, which names its variable.
    """
    given, problems = _group_variables(environ)
    targets = [_build_target(name, values, problems) for name, values in sorted(given.items())]
    if problems:
        raise ValueError("\n".join(problems))
    return tuple(filter(None, targets))


def read_target(environ: Mapping[str, str], name: str) -> Target:
    """Return the target of the handler called `name`; errors of other targets are ignored. Raise ValueError."""
    given, problems = _group_variables(environ)
    # A misspelled variable may be meant for this target, unless it begins with another target's name.
    others = tuple(f"{PREFIX}{other}_" for other in given if other and _handler_name(other) != name)
    problems = [problem for problem in problems if not problem.startswith(others)]
    targets = [_build_target(other, given[other], problems) for other in given if _handler_name(other) == name]
    if problems:
        raise ValueError("\n".join(problems))
    return next(filter(None, targets))


def read_options(environ: Mapping[str, str]) -> tuple[TargetOptions, ...]:
    """Return which events each target gets, `forward` first; read only that. Raise ValueError."""
    given, problems = _group_variables(environ)
    if not given:
        raise ValueError("\n".join(problems))
    problems = []
    found = []
    for name, values in sorted(given.items()):
        wanted = {option: value for option, value in values.items() if option in _HANDLER_OPTIONS}
        read = _parse_options(wanted, _prefix(name), problems)
        if not problems:
            found.append(TargetOptions(name=_handler_name(name), **read))
    if problems:
        raise ValueError("\n".join(problems))
    return tuple(found)


def _group_variables(environ: Mapping[str, str]) -> tuple[dict[str, dict[str, str]], list[str]]:
    """Return the variables of each target, by its name and the option, and the errors in their names."""
    given: dict[str, dict[str, str]] = {}
    problems: list[str] = []
    for variable, value in sorted(environ.items()):
        if not variable.startswith(PREFIX) or not value.strip() or service_links.is_service_link(variable, environ):
            continue
        match = _VARIABLE.fullmatch(variable)
        if match is None:
            problems.append(
                f"{variable}: is not a setting of the handler forward; its settings end in {', '.join(options.PARSERS)}"
            )
        else:
            given.setdefault(match[1] or "", {})[match[2]] = value.strip()
    if not given and not problems:
        problems.append(f"{PREFIX}URL: is not set: set it to the URL of the service that gets the events")
    return given, problems


def _prefix(name: str) -> str:
    return f"{PREFIX}{name}_" if name else PREFIX


def _handler_name(name: str) -> str:
    return f"forward-{name.lower()}" if name else "forward"


def _parse_options(given: Mapping[str, str], prefix: str, problems: list[str]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for option, value in given.items():
        try:
            values[option.lower()] = options.PARSERS[option](value)
        except ValueError as exc:
            problems.append(f"{prefix}{option}: {exc}")
    for kind, name, filtering in (
        (ReportEvent, "reports", ("STATUSES", "FINAL")),
        (ReplyEvent, "replies", ("OPT_OUTS",)),
    ):
        if kind not in values.get("kinds", (kind,)):
            problems += [
                f"{prefix}{option}: applies to {name} only, and KINDS excludes them"
                for option in filtering
                if option in given
            ]
    return values


def _build_target(name: str, given: Mapping[str, str], problems: list[str]) -> Target | None:
    prefix = _prefix(name)
    before = len(problems)
    values = _parse_options(given, prefix, problems)
    if "URL" not in given:
        problems.append(f"{prefix}URL: is not set, though {prefix}{min(given)} is")
    if "SECRETS" in given and "SECRETS_FILE" in given:
        problems.append(f"{prefix}SECRETS: both it and {prefix}SECRETS_FILE are set: unset one of them")
    elif "SECRETS" not in given and "SECRETS_FILE" not in given:
        problems.append(
            f"{prefix}SECRETS: is not set, so the target could not verify where a request comes from; "
            f"{signature.HOW_TO_MAKE}; or set it to {signature.UNSIGNED}, to send unsigned requests"
        )
    if "url" in values and not values.get("allow_private", False) and _is_private(values["url"].host):
        problems.append(f"{prefix}URL: its host is not a public address: correct it, or set {prefix}ALLOW_PRIVATE=true")
    if len(problems) > before:
        return None
    values["secrets"] = values.pop("secrets_file", ()) or values.get("secrets", ())
    values["headers"] = {**options.basic_auth_header(values["url"]), **values.get("headers", {})}
    return Target(name=_handler_name(name), **values)


def _is_private(host: str) -> bool:
    """Return whether a host is certainly private. Names are not resolved here, but when they are connected to."""
    try:
        return not addresses.is_public(str(ipaddress.ip_address(host)))
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")
