"""The settings, all of them: one frozen object read from the environment, and one table to explain it.

The README's table, `callbacks check` and the texts of errors come from the fields below. A value that is wrong
stops the start, with the variable's name and what is wrong; a secret is never shown, not even in a repr.
"""

import dataclasses
import ipaddress
import os
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias

from shared import connections
from shared.errors import ConfigurationError

Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network
Durability: TypeAlias = Literal["fsync", "replica", "memory"]
Variable: TypeAlias = Literal["REDIS_URL", "CALLBACKS_TOKENS"]

# NIST SP 800-63B asks for 8 where guesses are limited; this one is shared, and need not be learnt by heart.
_MIN_PASSWORD: Final = 12
_MAX_PASSWORD: Final = 256
# The reports of 50,000 destinations, which is the most that one send request may name, have 10 to 15 MB. A worker takes
# up to 20 MB for each MB of the smallest records, which is within the memory that deploy/ gives it.
MAX_BODY_BYTES: Final = 16 << 20
_RANDOM_EXAMPLE: Final = "openssl rand -base64 18"

ANY_NETWORK: Final = (ipaddress.ip_network("0.0.0.0/0"), ipaddress.ip_network("::/0"))


@dataclass(frozen=True, slots=True)
class Token:
    """A secret that a callback URL carries, and the name by which events and logs call whoever uses it."""

    name: str
    secret: str = dataclasses.field(repr=False)


def _option(
    variable: str, default: str | None, parse: Callable[[str], Any], text: str, *, shown_default: str | None = None
) -> Any:
    shown = default if shown_default is None else shown_default
    # Whatever may hold a password stays out of the repr.
    secret = any(word in variable for word in ("TOKEN", "URL", "SECRET", "PASSWORD"))
    metadata = {"variable": variable, "default": default, "parse": parse, "help": text, "shown_default": shown}
    return dataclasses.field(metadata=metadata, repr=not secret)


def _integer(least: int, most: int) -> Callable[[str], int]:
    def parse(value: str) -> int:
        if not re.fullmatch(r"[0-9]{1,15}", value) or not least <= int(value) <= most:
            raise ValueError(f"must be a whole number from {least} to {most}")
        return int(value)

    return parse


def _seconds(value: str) -> float:
    if not re.fullmatch(r"[0-9]{1,6}(\.[0-9]{1,6})?", value) or float(value) <= 0:
        raise ValueError("must be a number of seconds above 0")
    return float(value)


def _text(value: str) -> str:
    return value


def _redis_url(value: str) -> str:
    connections.check_url(value)
    return value


def _tokens(value: str) -> tuple[Token, ...]:
    tokens: list[Token] = []
    for position, part in enumerate(value.split(","), start=1):
        name, equals, secret = part.strip().partition("=")
        if not equals or not re.fullmatch(r"[A-Za-z0-9_.-]{1,64}", name):
            raise ValueError(f"entry {position} must be name=token, the name of letters, digits, '_', '.' and '-'")
        if not re.fullmatch(r"[^\s,/?#%\x00-\x20\x7f-\U0010ffff]{1,256}", secret):
            raise ValueError(
                f"the token of {name!r} must be 1 to 256 characters that a URL's path carries as they are: "
                "no space, no comma, none of / ? # %"
            )
        tokens.append(Token(name, secret))
    if len({token.secret for token in tokens}) < len(tokens):
        raise ValueError("two names have the same token, so who posted could not be told")
    return tuple(tokens)


def _networks(value: str) -> tuple[Network, ...]:
    networks: list[Network] = []
    for part in filter(None, (part.strip() for part in value.split(","))):
        if part == "*":
            networks.extend(ANY_NETWORK)
            continue
        try:
            networks.append(ipaddress.ip_network(part, strict=False))
        except ValueError as exc:
            raise ValueError(f"{part!r} is neither an IP address, nor a network such as 10.0.0.0/8, nor *") from exc
    return tuple(networks)


def _networks_not_empty(value: str) -> tuple[Network, ...]:
    networks = _networks(value)
    if not networks:
        raise ValueError("allows nobody: name the gateway's addresses, or * for any")
    return networks


def _one_of(*values: str) -> Callable[[str], str]:
    def parse(value: str) -> str:
        if value not in values:
            raise ValueError(f"must be {', '.join(values[:-1])} or {values[-1]}")
        return value

    return parse


def _names(value: str) -> tuple[str, ...]:
    names = tuple(filter(None, (part.strip() for part in value.split(","))))
    for name in names:
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_-]*(\.[A-Za-z_][A-Za-z0-9_]*)*", name):
            raise ValueError(f"{name!r} is neither the name of a handler nor of a module")
    if not names:
        raise ValueError("names no handler, so every event would be dropped")
    return names


def _password(value: str) -> str:
    if value and not _MIN_PASSWORD <= len(value) <= _MAX_PASSWORD:
        raise ValueError(f"must have {_MIN_PASSWORD} to {_MAX_PASSWORD} characters, for example: {_RANDOM_EXAMPLE}")
    return value


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What the environment says, checked. Sizes are in bytes, durations in seconds."""

    port: int = _option("PORT", "8080", _integer(0, 65535), "the port of the web process")
    host: str = _option("HOST", "127.0.0.1", _text, "the address it listens on")
    web_concurrency: int = _option("WEB_CONCURRENCY", "1", _integer(1, 64), "how many web processes share the port")
    redis_url: str = _option(
        "REDIS_URL",
        None,
        _redis_url,
        "redis://, rediss://, unix://, or redis+sentinel://host:port,host:port/service/db",
        shown_default="none: `callbacks dev` and `demo` run their own",
    )
    tokens: tuple[Token, ...] = _option(
        "CALLBACKS_TOKENS",
        None,
        _tokens,
        "`name=token,…`, several at once for rotation; the name becomes the event's `source`",
        shown_default="none: refuses to start",
    )
    allowed_ips: tuple[Network, ...] = _option(
        "CALLBACKS_ALLOWED_IPS",
        "80.252.167.60",
        _networks_not_empty,
        "addresses and networks that may post; `*` for any",
    )
    trusted_proxies: tuple[Network, ...] = _option(
        "CALLBACKS_TRUSTED_PROXIES",
        "",
        _networks,
        "whose X-Forwarded-For is believed, read from the right",
        shown_default="none",
    )
    max_body_bytes: int = _option(
        "CALLBACKS_MAX_BODY_BYTES",
        str(4 << 20),
        _integer(1024, MAX_BODY_BYTES),
        "the largest callback that is taken, at most 16 MiB",
    )
    body_timeout_seconds: float = _option(
        "CALLBACKS_BODY_TIMEOUT_SECONDS", "10", _seconds, "how long a body may take to arrive"
    )
    durability: Durability = _option(
        "CALLBACKS_DURABILITY",
        "fsync",
        _one_of("fsync", "replica", "memory"),
        "what a 200 rests on: `fsync`, `replica` or `memory`",
    )
    dedupe_seconds: int = _option(
        "CALLBACKS_DEDUPE_SECONDS", "86400", _integer(1, 366 * 86400), "how long an event is remembered"
    )
    handlers: tuple[str, ...] = _option(
        "CALLBACKS_HANDLERS", "log", _names, "names of installed handlers and dotted modules, comma-separated"
    )
    # Checked by the handler itself: what others of the machine mean by it must not keep this service from starting.
    database_url: str = _option(
        "DATABASE_URL",
        "sqlite:///var/callbacks.db",
        _text,
        "where the `sql` handler keeps messages: `sqlite:///PATH` or `postgresql://USER:PASSWORD@HOST:PORT/NAME`",
    )
    stream_url: str = _option(
        "CALLBACKS_STREAM_URL",
        "",
        _text,
        "the Redis of the `stream` handler, any address that `REDIS_URL` may be",
        shown_default="none: that of `REDIS_URL`",
    )
    stream_key: str = _option("CALLBACKS_STREAM_KEY", "callbacks", _text, "the stream that it adds to")
    stream_maxlen: str = _option(
        "CALLBACKS_STREAM_MAXLEN", "100000", _text, "about how many entries the stream keeps; empty: all"
    )
    jsonl_dir: str = _option("CALLBACKS_JSONL_DIR", "./var/events", _text, "where the `jsonl` handler writes its files")
    jsonl_max_bytes: str = _option(
        "CALLBACKS_JSONL_MAX_BYTES", str(64 << 20), _text, "a file that would grow larger is closed, another begun"
    )
    jsonl_gzip: str = _option(
        "CALLBACKS_JSONL_GZIP", "false", _text, "`true`: its closed files are packed, for `zgrep` and the like"
    )
    # Checked by the handler too; `CALLBACKS_FORWARD_<NAME>_URL` and so on make further targets (its `targets`).
    forward_url: str = _option(
        "CALLBACKS_FORWARD_URL", "", _text, "where the `forward` handler posts each event, signed", shown_default="none"
    )
    forward_secrets: str = _option(
        "CALLBACKS_FORWARD_SECRETS",
        "",
        _text,
        "with what it signs: `whsec_…`, several for rotation; `none`: unsigned",
        shown_default="none: the handler refuses to start",
    )
    spool_dir: str = _option(
        "CALLBACKS_SPOOL_DIR", "./var/spool", _text, "where callbacks wait while Redis is away; empty: no spool"
    )
    spool_max_bytes: int = _option(
        "CALLBACKS_SPOOL_MAX_BYTES",
        str(1 << 30),
        _integer(1 << 20, 10**15 - 1),
        "how much that folder may hold, of all web processes together",
    )
    run_dir: str = _option(
        "CALLBACKS_RUN_DIR",
        "./var/run",
        _text,
        "where workers note what their handlers have finished, so that none of it comes again; empty: nowhere",
    )
    quarantine_max_bytes: int = _option(
        "CALLBACKS_QUARANTINE_MAX_BYTES",
        str(256 << 20),
        _integer(1 << 20, 10**15 - 1),
        "how much of Redis's memory the quarantine may hold; beyond it the oldest are dropped",
    )
    dead_letter_max_bytes: int = _option(
        "CALLBACKS_DEAD_LETTER_MAX_BYTES",
        str(256 << 20),
        _integer(1 << 20, 10**15 - 1),
        "how much the dead letters of one handler may hold there, likewise",
    )
    ops_host: str = _option("CALLBACKS_OPS_HOST", "127.0.0.1", _text, "the address of the operators' page")
    ops_password: str = _option(
        "CALLBACKS_OPS_PASSWORD",
        "",
        _password,
        "what signs in there, 12 characters or more; without it the page is on the loopback address only",
        shown_default="none",
    )
    ops_port: int = _option("CALLBACKS_OPS_PORT", "8081", _integer(0, 65535), "the port of the operators' page")
    log_level: str = _option(
        "CALLBACKS_LOG_LEVEL",
        "INFO",
        _one_of("DEBUG", "INFO", "WARNING", "ERROR"),
        "the service's own log, on standard error",
    )
    log_file: str = _option(
        "CALLBACKS_LOG_FILE", "", _text, "where the `log` handler writes", shown_default="standard output"
    )
    log_numbers: str = _option(
        "CALLBACKS_LOG_NUMBERS",
        "masked",
        _one_of("masked", "full"),
        "`full`: the `log` handler writes whole phone numbers",
    )


@dataclass(frozen=True, slots=True)
class SettingRow:
    """One line of the table of settings."""

    variable: str
    default: str
    help: str


# Where a secret may stand in a file instead, as containers and systemd hand them over.
_FROM_FILE: Final = frozenset(("REDIS_URL", "CALLBACKS_TOKENS", "DATABASE_URL", "CALLBACKS_OPS_PASSWORD"))
# An empty value of these says something; of the others it is as good as none.
_MAY_BE_EMPTY: Final = frozenset(("CALLBACKS_SPOOL_DIR", "CALLBACKS_RUN_DIR"))


def table_rows() -> tuple[SettingRow, ...]:
    """Give every setting as the README shows it."""
    rows: list[SettingRow] = []
    for field in dataclasses.fields(Settings):
        variable = field.metadata["variable"]
        rows.append(SettingRow(variable, field.metadata["shown_default"], field.metadata["help"]))
        if variable in _FROM_FILE:
            rows.append(SettingRow(f"{variable}_FILE", "none", f"a file that holds `{variable}`, instead of that"))
    return tuple(rows)


# Which variables only the web process, only the operators' page, only workers, and only handlers read.
WEB_VARIABLES: Final[tuple[str, ...]] = (
    "PORT",
    "WEB_CONCURRENCY",
    "CALLBACKS_TOKENS",
    "CALLBACKS_ALLOWED_IPS",
    "CALLBACKS_TRUSTED_PROXIES",
    "CALLBACKS_MAX_BODY_BYTES",
    "CALLBACKS_BODY_TIMEOUT_SECONDS",
    "CALLBACKS_DURABILITY",
    "CALLBACKS_SPOOL_MAX_BYTES",
)
OPS_VARIABLES: Final[tuple[str, ...]] = ("CALLBACKS_OPS_PASSWORD", "CALLBACKS_OPS_PORT")
WORKERS_VARIABLES: Final[tuple[str, ...]] = (
    "CALLBACKS_DEDUPE_SECONDS",
    "CALLBACKS_HANDLERS",
    "CALLBACKS_QUARANTINE_MAX_BYTES",
    "CALLBACKS_DEAD_LETTER_MAX_BYTES",
)
HANDLERS_VARIABLES: Final[tuple[str, ...]] = ("DATABASE_URL", "CALLBACKS_LOG_NUMBERS")


def load(
    environ: Mapping[str, str] | None = None,
    *,
    needs: tuple[Variable, ...] = (),
    unused: Collection[str] = (),
) -> Settings:
    """Read the settings from `environ` (None: this process's environment).

    `needs` names the variables without which the caller cannot work, `unused` those that it does not read: where they
    are wrong they have their defaults, as somebody else's mistake. Raises ConfigurationError, which names every fault
    at once.
    """
    environ = os.environ if environ is None else environ
    values: dict[str, Any] = {}
    problems: list[str] = []
    for field in dataclasses.fields(Settings):
        variable, default = field.metadata["variable"], field.metadata["default"]
        try:
            given = _read_variable(environ, variable)
        except ValueError as exc:
            values[field.name] = _default(field)
            if variable not in unused:
                problems.append(str(exc))
            continue
        if given is None or (not given.strip() and variable not in _MAY_BE_EMPTY):
            given = default
        if given is None:
            values[field.name] = () if field.name == "tokens" else ""
            if variable in needs:
                problems.append(f"{variable} is not set. It is: {field.metadata['help']}")
            continue
        try:
            values[field.name] = field.metadata["parse"](given.strip())
        except ValueError as exc:
            values[field.name] = _default(field)
            if variable not in unused:
                problems.append(f"{variable}: {exc}")
    if problems:
        raise ConfigurationError(problems)
    return Settings(**values)


def _default(field: dataclasses.Field[Any]) -> Any:
    variable, default = field.metadata["variable"], field.metadata["default"]
    if default is None:
        return () if variable == "CALLBACKS_TOKENS" else ""
    return field.metadata["parse"](default)


def _read_variable(environ: Mapping[str, str], variable: str) -> str | None:
    """Give what is said of `variable`, by itself or by a file. Raises ValueError in words that hold no secret."""
    given = environ.get(variable)
    file = environ.get(f"{variable}_FILE", "").strip() if variable in _FROM_FILE else ""
    if not file:
        return given
    if given is not None and given.strip():
        raise ValueError(f"{variable} and {variable}_FILE are both set: which one counts? Take one away")
    try:
        held = Path(file).read_text(encoding="utf-8").strip()
    except OSError as exc:
        raise ValueError(f"{variable}_FILE: {file} cannot be read: {exc.strerror}") from exc
    except UnicodeDecodeError:
        # Not chained: it quotes what it could not read.
        raise ValueError(f"{variable}_FILE: {file} is no text in UTF-8") from None
    if not held:
        raise ValueError(f"{variable}_FILE: {file} is empty")
    return held
