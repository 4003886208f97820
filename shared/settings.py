"""All settings: one frozen object read from the environment, and the table that explains it.

The documented table, `callbacks check` and the errors are made from the fields below. A wrong value stops the start
with the variable's name and what is wrong. A secret is never shown, not even in a repr.
"""

import dataclasses
import os
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias

from callbacks import service_links
from shared import retention
from shared.cells import Cell, parse_cells
from shared.errors import ConfigurationError
from shared.setting_values import (
    RUNBOOK,
    HostPort,
    Network,
    OperatorToken,
    Token,
    integer,
    one_of,
    optional_integer,
    parse_header_name,
    parse_host_ports,
    parse_level,
    parse_list,
    parse_log_format,
    parse_names,
    parse_networks,
    parse_networks_not_empty,
    parse_operator_tokens,
    parse_password,
    parse_redis_url,
    parse_runbook_url,
    parse_seconds,
    parse_secret,
    parse_targets,
    parse_text,
    parse_tokens,
    parse_writable_file,
    zero_or,
)

Durability: TypeAlias = Literal["fsync", "replica", "memory", "managed"]
SqlErasure: TypeAlias = Literal["erase", "pseudonymise"]
Variable: TypeAlias = Literal["REDIS_URL", "CALLBACKS_TOKENS"]
# `history`: what reads the database of the handler `sql`. `cells`: the commands that read every cell. `notify`: the one
# that tries the targets of notices. `command`: the other commands; `check` reads everything.
Process: TypeAlias = Literal["web", "expand", "deliver", "ops", "command", "cells", "history", "notify"]

# The reports of 50,000 destinations, the most that one send request may name, have 10 to 15 MB. A worker needs up to
# 20 MB for each MB of the smallest records, which is within the memory that deploy/ gives it.
MAX_BODY_BYTES: Final = 16 << 20


def _option(
    variable: str, default: str | None, parse: Callable[[str], Any], text: str, *, shown_default: str | None = None
) -> Any:
    shown = default if shown_default is None else shown_default
    # A field that may hold a password is not in the repr.
    secret = variable == "CALLBACKS_NOTIFY" or any(word in variable for word in ("TOKEN", "URL", "SECRET", "PASSWORD"))
    metadata = {"variable": variable, "default": default, "parse": parse, "help": text, "shown_default": shown}
    return dataclasses.field(metadata=metadata, repr=not secret)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The settings of the environment, checked. Sizes are in bytes, durations in seconds."""

    port: int = _option("PORT", "8080", integer(0, 65535), "port of the web process")
    host: str = _option("HOST", "127.0.0.1", parse_text, "address on which the web process listens")
    web_concurrency: int = _option(
        "WEB_CONCURRENCY", "1", integer(1, 64), "number of web processes, which share the port"
    )
    metrics_host: str = _option(
        "CALLBACKS_METRICS_HOST",
        "127.0.0.1",
        parse_text,
        "address on which the web process serves its own `/metrics`",
    )
    metrics_port: int | None = _option(
        "CALLBACKS_METRICS_PORT",
        "",
        optional_integer(0, 65535),
        "port of the web process's own `/metrics`, which needs no Redis",
        shown_default="none: it is not served",
    )
    web_metrics: tuple[HostPort, ...] = _option(
        "CALLBACKS_WEB_METRICS",
        "",
        parse_host_ports,
        "where `callbacks ops` and `top` ask the web processes for their spools while Redis is unavailable: "
        "`host:port,…`, the port as in `CALLBACKS_METRICS_PORT`; each address of a name is asked",
        shown_default="none: they are not asked",
    )
    redis_url: str = _option(
        "REDIS_URL",
        None,
        parse_redis_url,
        "URL of Redis: redis://, rediss://, valkey://, valkeys://, unix://, or "
        "redis+sentinel://host:port,host:port/service/db",
        shown_default="none; `callbacks dev` and `demo` run their own",
    )
    cells: tuple[Cell, ...] = _option(
        "CALLBACKS_CELLS",
        "",
        parse_cells,
        "cells that `callbacks ops`, `audit` and `top` show together: `name=redis-url,…`, each URL as in `REDIS_URL`",
        shown_default="none: one Redis, that of `REDIS_URL`",
    )
    tokens: tuple[Token, ...] = _option(
        "CALLBACKS_TOKENS",
        None,
        parse_tokens,
        "tokens of the callback URLs: `name=token,…`, several for rotation; the name is the event's `source`",
        shown_default="none; required",
    )
    allowed_ips: tuple[Network, ...] = _option(
        "CALLBACKS_ALLOWED_IPS",
        "80.252.167.60",
        parse_networks_not_empty,
        "addresses and networks that may post callbacks; `*` for any",
    )
    trusted_proxies: tuple[Network, ...] = _option(
        "CALLBACKS_TRUSTED_PROXIES",
        "",
        parse_networks,
        "proxies whose X-Forwarded-For is believed; it is read from the right",
        shown_default="none",
    )
    max_body_bytes: int = _option(
        "CALLBACKS_MAX_BODY_BYTES",
        str(4 << 20),
        integer(1024, MAX_BODY_BYTES),
        "size of the largest callback; at most 16 MiB",
    )
    body_timeout_seconds: float = _option(
        "CALLBACKS_BODY_TIMEOUT_SECONDS", "10", parse_seconds, "seconds within which a body must arrive"
    )
    durability: Durability = _option(
        "CALLBACKS_DURABILITY",
        "fsync",
        one_of("fsync", "replica", "memory", "managed"),
        "where a callback is stored before the 200: `fsync` (on disk), `replica` (also on a replica), `memory`, or "
        "`managed` (what the provider of Redis promises, unchecked)",
    )
    dedupe_seconds: int = _option(
        "CALLBACKS_DEDUPE_SECONDS",
        "86400",
        integer(1, 366 * 86400),
        "seconds for which an event is remembered at least (at most half as long again), to recognise repetitions",
    )
    handlers: tuple[str, ...] = _option(
        "CALLBACKS_HANDLERS", "log", parse_names, "installed handlers and dotted modules, separated by commas"
    )
    # Checked by the handler itself: another program on this machine may use the variable for something else.
    database_url: str = _option(
        "DATABASE_URL",
        "sqlite:///var/callbacks.db",
        parse_text,
        "database of the handlers `sql` and `optout`: `sqlite:///PATH` or "
        "`postgresql://USER:PASSWORD@HOST:PORT/NAME`, with several hosts `@HOST:PORT,HOST:PORT/NAME`",
    )
    forget_sql: SqlErasure = _option(
        "CALLBACKS_FORGET_SQL",
        "erase",
        one_of("erase", "pseudonymise"),
        "what `callbacks forget` does to rows of `sql`: `erase`, or `pseudonymise` (digests for numbers, no texts)",
    )
    forget_secret: str = _option(
        "CALLBACKS_FORGET_SECRET",
        "",
        parse_secret,
        "key of these digests, at least 16 characters",
        shown_default="none; required to pseudonymise",
    )
    stream_url: str = _option(
        "CALLBACKS_STREAM_URL",
        "",
        parse_text,
        "Redis of the `stream` handler, a URL as in `REDIS_URL`",
        shown_default="none: `REDIS_URL` is used",
    )
    stream_key: str = _option(
        "CALLBACKS_STREAM_KEY", "callbacks", parse_text, "stream to which the `stream` handler adds events"
    )
    stream_maxlen: str = _option(
        "CALLBACKS_STREAM_MAXLEN",
        "100000",
        parse_text,
        "approximate number of entries that the stream keeps; empty: all",
    )
    jsonl_dir: str = _option(
        "CALLBACKS_JSONL_DIR", "./var/events", parse_text, "folder for the files of the `jsonl` handler"
    )
    jsonl_max_bytes: str = _option(
        "CALLBACKS_JSONL_MAX_BYTES",
        str(64 << 20),
        parse_text,
        "maximum size of such a file; after that a new one is started",
    )
    jsonl_gzip: str = _option("CALLBACKS_JSONL_GZIP", "false", parse_text, "`true`: compress the finished files")
    # Checked by the handler too; `CALLBACKS_FORWARD_<NAME>_URL` and so on make further targets (its `targets`).
    forward_url: str = _option(
        "CALLBACKS_FORWARD_URL",
        "",
        parse_text,
        "URL to which the `forward` handler posts each event, signed",
        shown_default="none",
    )
    forward_secrets: str = _option(
        "CALLBACKS_FORWARD_SECRETS",
        "",
        parse_text,
        "secrets that sign these requests: `whsec_…`, several for rotation; `none`: unsigned",
        shown_default="none; required by the handler",
    )
    # Read by `shared.opt_outs` in the workers, and checked by the handler `optout`.
    optout_words: str = _option(
        "CALLBACKS_OPTOUT_WORDS",
        "",
        parse_text,
        "further keywords with which a reply opts out, beyond STOP and so on, separated by commas; `-WORD` removes one",
        shown_default="none",
    )
    optin_words: str = _option(
        "CALLBACKS_OPTIN_WORDS",
        "",
        parse_text,
        "further keywords with which a reply opts in again, beyond START and so on; `-WORD` removes one",
        shown_default="none",
    )
    spool_dir: str = _option(
        "CALLBACKS_SPOOL_DIR",
        "./var/spool",
        parse_text,
        "folder in which callbacks wait while Redis is unavailable; empty: no spool",
    )
    spool_max_bytes: int = _option(
        "CALLBACKS_SPOOL_MAX_BYTES",
        str(1 << 30),
        integer(1 << 20, 10**15 - 1),
        "maximum size of the spool, of all web processes together",
    )
    run_dir: str = _option(
        "CALLBACKS_RUN_DIR",
        "./var/run",
        parse_text,
        "folder of the completion journals, which keep finished events from being delivered twice; empty: none",
    )
    heartbeat_file: str = _option(
        "CALLBACKS_HEARTBEAT_FILE",
        "",
        parse_writable_file,
        "file whose time the process renews every second while it works, for a probe; one for each process",
        shown_default="none",
    )
    quarantine_max_bytes: int = _option(
        "CALLBACKS_QUARANTINE_MAX_BYTES",
        str(256 << 20),
        integer(1 << 20, 10**15 - 1),
        "maximum size of the quarantine in Redis; beyond it the oldest entries are dropped",
    )
    dead_letter_max_bytes: int = _option(
        "CALLBACKS_DEAD_LETTER_MAX_BYTES",
        str(256 << 20),
        integer(1 << 20, 10**15 - 1),
        "maximum size of the dead letters of each handler in Redis; beyond it the oldest are dropped",
    )
    retention_days: int | None = _option(
        "CALLBACKS_RETENTION_DAYS",
        "",
        optional_integer(1, retention.MAX_DAYS),
        "days for which the handlers `sql`, `jsonl` and `stream` keep events, and Redis failures and operators' "
        "actions; what is older is removed; each of the next five sets it for one of them",
        shown_default="none: `sql` and `jsonl` keep all",
    )
    sql_retention_days: int | None = _option(
        "CALLBACKS_SQL_RETENTION_DAYS",
        "",
        optional_integer(1, retention.MAX_DAYS),
        "days after which the `sql` handler's rows are removed: a message's after its last report, a reply's after its "
        "receipt",
        shown_default="`CALLBACKS_RETENTION_DAYS`",
    )
    jsonl_retention_days: int | None = _option(
        "CALLBACKS_JSONL_RETENTION_DAYS",
        "",
        optional_integer(1, retention.MAX_DAYS),
        "days after which the `jsonl` handler's files are removed, counted from the last line of each",
        shown_default="`CALLBACKS_RETENTION_DAYS`",
    )
    stream_retention_days: int | None = _option(
        "CALLBACKS_STREAM_RETENTION_DAYS",
        "",
        optional_integer(1, retention.MAX_DAYS),
        "days after which entries of the `stream` handler are removed, within `CALLBACKS_STREAM_MAXLEN`",
        shown_default="`CALLBACKS_RETENTION_DAYS`",
    )
    failures_retention_days: int | None = _option(
        "CALLBACKS_FAILURES_RETENTION_DAYS",
        "",
        optional_integer(1, retention.MAX_FAILURE_DAYS),
        "days after which quarantined callbacks and dead letters are dropped",
        shown_default="30, or `CALLBACKS_RETENTION_DAYS` if that is less",
    )
    actions_retention_days: int | None = _option(
        "CALLBACKS_ACTIONS_RETENTION_DAYS",
        "",
        optional_integer(1, retention.MAX_ACTION_DAYS),
        "days after which entries of the action log are removed; it keeps at most 5000",
        shown_default="366, or `CALLBACKS_RETENTION_DAYS` if that is less",
    )
    delivery_log_bytes: int = _option(
        "CALLBACKS_DELIVERY_LOG_BYTES",
        str(64 << 20),
        zero_or(1 << 20, 10**15 - 1),
        "maximum size of the delivery log in Redis: each attempt; at most 1 % of its maxmemory; 0: none",
    )
    ops_host: str = _option(
        "CALLBACKS_OPS_HOST", "127.0.0.1", parse_text, "address on which the operators' page listens"
    )
    ops_password: str = _option(
        "CALLBACKS_OPS_PASSWORD",
        "",
        parse_password,
        "password of the operators' page, at least 12 characters; without it the page is on a loopback address only",
        shown_default="none",
    )
    ops_read_password: str = _option(
        "CALLBACKS_OPS_READ_PASSWORD",
        "",
        parse_password,
        "a second password of the operators' page, at least 12 characters, for those who may see it but not act",
        shown_default="none",
    )
    ops_trusted_user_header: str = _option(
        "CALLBACKS_OPS_TRUSTED_USER_HEADER",
        "",
        parse_header_name,
        "header in which a proxy of `CALLBACKS_TRUSTED_PROXIES` names the user that it signed in, such as "
        "`X-Forwarded-User`",
        shown_default="none",
    )
    ops_trusted_groups_header: str = _option(
        "CALLBACKS_OPS_TRUSTED_GROUPS_HEADER",
        "",
        parse_header_name,
        "header in which that proxy names the user's groups, separated by commas, such as `X-Forwarded-Groups`",
        shown_default="none",
    )
    ops_act_groups: tuple[str, ...] = _option(
        "CALLBACKS_OPS_ACT_GROUPS",
        "",
        parse_list,
        "groups whose members may act, separated by commas; all other users of that proxy may only read",
        shown_default="none: each user of that proxy may act",
    )
    ops_tokens: tuple[OperatorToken, ...] = _option(
        "CALLBACKS_OPS_TOKENS",
        "",
        parse_operator_tokens,
        "bearer tokens of `/api` on the operators' port: `name:role=secret,…`; a role is `read` or `act`, a secret has "
        "at least 12 characters",
        shown_default="none: `/api` answers nobody",
    )
    ops_requests_per_minute: int = _option(
        "CALLBACKS_OPS_REQUESTS_PER_MINUTE",
        "600",
        integer(1, 1_000_000),
        "requests to `/api` of each token in a minute; a tenth of them may come at once",
    )
    ops_port: int = _option("CALLBACKS_OPS_PORT", "8081", integer(0, 65535), "port of the operators' page")
    # Whether Apprise knows a URL is checked where it is imported: callbacks.ops.notices.targets.
    notify: tuple[str, ...] = _option(
        "CALLBACKS_NOTIFY",
        "",
        parse_targets,
        "where `callbacks ops` sends notices: URLs of Apprise (mail, Slack, Teams, Telegram and others), or "
        "`webhook+https://…` for signed POSTs; several are separated by spaces or commas",
        shown_default="none",
    )
    notify_secret: str = _option(
        "CALLBACKS_NOTIFY_SECRET",
        "",
        parse_text,
        "secret that signs the notices to `webhook+https://…`: `whsec_…`, several for rotation",
        shown_default="none; required by such a URL",
    )
    notify_after_seconds: float = _option(
        "CALLBACKS_NOTIFY_AFTER_SECONDS",
        "30",
        parse_seconds,
        "seconds that a condition must last before a notice says so; it is over after twice that time without it",
    )
    notify_silence_seconds: int = _option(
        "CALLBACKS_NOTIFY_SILENCE_SECONDS",
        "0",
        integer(0, 366 * 86400),
        "seconds without any callback that are an alert, on the page and as a notice; 0: never",
    )
    runbook_url: str = _option(
        "CALLBACKS_RUNBOOK_URL",
        RUNBOOK,
        parse_runbook_url,
        "URL where you publish `docs/operations.md`: notices, alerts and the dashboard link to its sections",
    )
    overdue_seconds: int = _option(
        "CALLBACKS_OVERDUE_SECONDS",
        "86400",
        integer(1, 366 * 86400),
        "seconds after its first report from which a message without a final status is overdue (handler `sql`)",
    )
    log_level: str = _option(
        "CALLBACKS_LOG_LEVEL",
        "INFO",
        parse_level,
        "level of the service's own log on standard error: `DEBUG`, `INFO`, `WARNING` or `ERROR`",
    )
    log_format: str = _option(
        "CALLBACKS_LOG_FORMAT",
        "text",
        parse_log_format,
        "form of that log: `text` (logfmt) or `json`, a line each",
    )
    log_file: str = _option(
        "CALLBACKS_LOG_FILE",
        "",
        parse_text,
        "file to which the `log` handler writes",
        shown_default="standard output",
    )
    log_numbers: str = _option(
        "CALLBACKS_LOG_NUMBERS",
        "masked",
        one_of("masked", "full"),
        "`masked`, or `full`: the `log` handler writes whole phone numbers",
    )


@dataclass(frozen=True, slots=True)
class SettingRow:
    """A row of the table of settings."""

    variable: str
    default: str
    help: str


# The secrets that may be in a file instead, as containers and systemd provide them.
FROM_FILE: Final = frozenset(
    (
        "REDIS_URL",
        "CALLBACKS_CELLS",
        "CALLBACKS_TOKENS",
        "DATABASE_URL",
        "CALLBACKS_OPS_PASSWORD",
        "CALLBACKS_OPS_READ_PASSWORD",
        "CALLBACKS_OPS_TOKENS",
        "CALLBACKS_NOTIFY",
        "CALLBACKS_NOTIFY_SECRET",
        "CALLBACKS_FORGET_SECRET",
    )
)
# An empty value of these has a meaning; of all others it is the same as none.
_MAY_BE_EMPTY: Final = frozenset(("CALLBACKS_SPOOL_DIR", "CALLBACKS_RUN_DIR"))


def table_rows() -> tuple[SettingRow, ...]:
    """Return every setting as the documentation shows it."""
    rows: list[SettingRow] = []
    for field in dataclasses.fields(Settings):
        variable = field.metadata["variable"]
        rows.append(SettingRow(variable, field.metadata["shown_default"], field.metadata["help"]))
        if variable in FROM_FILE:
            rows.append(SettingRow(f"{variable}_FILE", "none", f"file that holds `{variable}`"))
    return tuple(rows)


_WEB: Final[frozenset[Process]] = frozenset(("web",))
_WORKERS: Final[frozenset[Process]] = frozenset(("expand", "deliver"))
_COMMAND: Final[frozenset[Process]] = frozenset(("command",))
_OPS: Final[frozenset[Process]] = frozenset(("ops",))
_NOTIFY: Final[frozenset[Process]] = frozenset(("ops", "notify"))
_CELLS: Final[frozenset[Process]] = frozenset(("cells",))
# Which processes read a setting that not all of them read: a wrong one stops no other. What the pages of `ops` read of
# the handlers is not worth their start. Handlers read their own settings themselves.
READ_BY: Final[Mapping[str, frozenset[Process]]] = {
    "PORT": _WEB,
    "WEB_CONCURRENCY": _WEB,
    "CALLBACKS_METRICS_PORT": _WEB,
    "CALLBACKS_TOKENS": _WEB,
    "CALLBACKS_ALLOWED_IPS": _WEB,
    "CALLBACKS_TRUSTED_PROXIES": _WEB | _OPS,
    "CALLBACKS_MAX_BODY_BYTES": _WEB,
    "CALLBACKS_BODY_TIMEOUT_SECONDS": _WEB,
    "CALLBACKS_CELLS": _OPS | _CELLS,
    "CALLBACKS_WEB_METRICS": _OPS | _CELLS,
    "CALLBACKS_DURABILITY": _WEB | _OPS | _CELLS,
    "CALLBACKS_SPOOL_MAX_BYTES": _WEB,
    "CALLBACKS_DEDUPE_SECONDS": frozenset(("expand",)),
    "CALLBACKS_HANDLERS": _WORKERS | _COMMAND,
    "CALLBACKS_HEARTBEAT_FILE": _WEB | _WORKERS | _OPS,
    "CALLBACKS_QUARANTINE_MAX_BYTES": _WORKERS,
    "CALLBACKS_DEAD_LETTER_MAX_BYTES": _WORKERS,
    "CALLBACKS_RETENTION_DAYS": _WORKERS,
    "CALLBACKS_SQL_RETENTION_DAYS": frozenset(("deliver",)),
    "CALLBACKS_JSONL_RETENTION_DAYS": frozenset(("deliver",)),
    "CALLBACKS_STREAM_RETENTION_DAYS": frozenset(("deliver",)),
    "CALLBACKS_FAILURES_RETENTION_DAYS": _WORKERS,
    "CALLBACKS_ACTIONS_RETENTION_DAYS": _WORKERS,
    "CALLBACKS_DELIVERY_LOG_BYTES": frozenset(("deliver",)),
    "CALLBACKS_OPS_PASSWORD": _OPS,
    "CALLBACKS_OPS_READ_PASSWORD": _OPS,
    "CALLBACKS_OPS_TRUSTED_USER_HEADER": _OPS,
    "CALLBACKS_OPS_TRUSTED_GROUPS_HEADER": _OPS,
    "CALLBACKS_OPS_ACT_GROUPS": _OPS,
    "CALLBACKS_OPS_TOKENS": _OPS,
    "CALLBACKS_OPS_REQUESTS_PER_MINUTE": _OPS,
    "CALLBACKS_OPS_PORT": _OPS,
    "CALLBACKS_NOTIFY": _NOTIFY,
    "CALLBACKS_NOTIFY_SECRET": _NOTIFY,
    "CALLBACKS_NOTIFY_AFTER_SECONDS": _OPS,
    "CALLBACKS_NOTIFY_SILENCE_SECONDS": _OPS | _CELLS,
    "CALLBACKS_RUNBOOK_URL": _OPS,
    "CALLBACKS_OVERDUE_SECONDS": frozenset(("ops", "history")),
    "DATABASE_URL": frozenset(("history",)),
    "CALLBACKS_FORGET_SQL": _COMMAND,
    "CALLBACKS_FORGET_SECRET": _COMMAND,
    "CALLBACKS_LOG_NUMBERS": frozenset(),
}


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
    Raises ConfigurationError, which names all mistakes at once.
    """
    environ = os.environ if environ is None else environ
    ignored = {*unused, *(name for name, readers in READ_BY.items() if process not in {None, *readers})}
    values: dict[str, Any] = {}
    problems: list[str] = []
    missing: dict[str, str] = {}
    for field in dataclasses.fields(Settings):
        variable, default = field.metadata["variable"], field.metadata["default"]
        try:
            given = _read_variable(environ, variable)
        except ValueError as exc:
            values[field.name] = _default(field)
            if variable not in ignored:
                problems.append(str(exc))
            continue
        if given is None or (not given.strip() and variable not in _MAY_BE_EMPTY):
            given = default
        if given is None:
            values[field.name] = () if field.name == "tokens" else ""
            if variable in needs:
                missing[variable] = f"{variable} is not set. Its meaning: {field.metadata['help']}"
            continue
        try:
            values[field.name] = field.metadata["parse"](given.strip())
        except ValueError as exc:
            values[field.name] = _default(field)
            if variable not in ignored:
                problems.append(f"{variable}: {exc}")
    if "REDIS_URL" in missing and values["cells"] and "CALLBACKS_CELLS" not in ignored:
        del missing["REDIS_URL"]
        values["redis_url"] = values["cells"][0].redis_url
    problems.extend(missing.values())
    if problems:
        raise ConfigurationError(problems)
    return Settings(**values)


def _default(field: dataclasses.Field[Any]) -> Any:
    variable, default = field.metadata["variable"], field.metadata["default"]
    if default is None:
        return () if variable == "CALLBACKS_TOKENS" else ""
    return field.metadata["parse"](default)


def _read_variable(environ: Mapping[str, str], variable: str) -> str | None:
    """Return the value of `variable`, or of its file. Raises ValueError, whose message has no secret."""
    given = environ.get(variable)
    if given is not None and service_links.is_service_link(variable, environ):
        given = None
    file = environ.get(f"{variable}_FILE", "").strip() if variable in FROM_FILE else ""
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
