"""The options that a Redis URL may have after its `?`: their names, values and types.

Time-outs, retries, decoding and the protocol are not among them: `shared.connections` and RQ need those as they are.
"""

import os
import re
from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple
from urllib.parse import parse_qsl

_BOOLEANS: Final = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}


class _Option(NamedTuple):
    """How a value is read, which raises ValueError or KeyError, and what it must be."""

    read: Callable[[str], Any]
    expected: str


def _text(pattern: str) -> Callable[[str], str]:
    def read(value: str) -> str:
        if re.fullmatch(pattern, value) is None:
            raise ValueError
        return value

    return read


_TEXT: Final = _Option(_text(r"(?s).+"), "not empty")
_BOOLEAN: Final = _Option(lambda value: _BOOLEANS[value.lower()], "true or false")
_FILE: Final = _Option(_text(r"[^\x00]+"), "a path")
_TLS: Final[Mapping[str, _Option]] = {
    "ssl_ca_certs": _FILE,
    "ssl_ca_path": _FILE,
    "ssl_certfile": _FILE,
    "ssl_keyfile": _FILE,
    "ssl_password": _TEXT,
    "ssl_cert_reqs": _Option(_text("none|optional|required"), "none, optional or required"),
    "ssl_check_hostname": _BOOLEAN,
    "ssl_ciphers": _TEXT,
    "ssl_min_version": _Option(lambda value: int(_text("771|772")(value)), "771 (TLS 1.2) or 772 (TLS 1.3)"),
}
_OPTIONS: Final[Mapping[str, _Option]] = {
    "db": _Option(lambda value: int(_text("[0-9]{1,9}")(value)), "the number of a database"),
    "username": _TEXT,
    "password": _TEXT,
    # Redis refuses other characters.
    "client_name": _Option(_text("[!-~]+"), "ASCII without blanks"),
    **_TLS,
}
_SENTINEL_OPTIONS: Final[Mapping[str, _Option]] = {
    **_OPTIONS,
    "sentinel_username": _TEXT,
    "sentinel_password": _TEXT,
    "sentinel_ssl": _BOOLEAN,
    **{f"sentinel_{name}": option for name, option in _TLS.items()},
}


def read(query: str, *, of_sentinels: bool) -> dict[str, Any]:
    """Return the options of a URL by name. Raise ValueError, whose message has names only."""
    known = _SENTINEL_OPTIONS if of_sentinels else _OPTIONS
    given = parse_qsl(query, keep_blank_values=True)
    names = [name for name, _ in given]
    unknown = sorted({name for name in names if name not in known})
    if unknown:
        raise ValueError(
            f"has unknown options: {', '.join(unknown)}; the known ones are {', '.join(sorted(known))}; time-outs, "
            "retries, decoding and the protocol are set by the service"
        )
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"has options twice: {', '.join(twice)}; write each once")
    options: dict[str, Any] = {}
    for name, value in given:
        try:
            options[name] = known[name].read(value)
        except (ValueError, KeyError):
            # Not chained: it may quote the value.
            raise ValueError(f"has a wrong value of the option {name}: it must be {known[name].expected}") from None
    return options


def find_file_problem(options: Mapping[str, Any]) -> str | None:
    """Return what is wrong with a file that an option names, or None."""
    for name, value in options.items():
        if _SENTINEL_OPTIONS[name] is _FILE and not os.access(value, os.R_OK):
            why = "cannot be read" if os.path.lexists(value) else "does not exist"
            return f"has the option {name} with a file that {why}: {value}"
    return None
