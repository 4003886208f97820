"""The settings of the built-in handlers, which read and check them themselves."""

from dataclasses import dataclass
from typing import ClassVar

from shared.setting_groups.setting import setting
from shared.setting_values import integer, one_of, parse_text


@dataclass(frozen=True, kw_only=True)
class HandlerSettings:
    """Where the built-in handlers write, and what they do.

    Each reads its own itself, so most are a text here: a wrong one of another handler stops no process.
    """

    title: ClassVar = "Built-in handlers"

    # Checked by the handler itself: another program on this machine may use the variable for something else.
    database_url: str = setting(
        "DATABASE_URL",
        "sqlite:///var/callbacks.db",
        parse_text,
        "database of the handlers `sql` and `optout`: `sqlite:///PATH` or "
        "`postgresql://USER:PASSWORD@HOST:PORT/NAME`, with several hosts `@HOST:PORT,HOST:PORT/NAME`",
        from_file=True,
        read_by=("history",),
    )
    overdue_seconds: int = setting(
        "CALLBACKS_OVERDUE_SECONDS",
        "86400",
        integer(1, 366 * 86400),
        "seconds after its first report from which a message without a final status is overdue (handler `sql`)",
        read_by=("ops", "history"),
    )
    jsonl_dir: str = setting(
        "CALLBACKS_JSONL_DIR", "./var/events", parse_text, "folder for the files of the `jsonl` handler"
    )
    jsonl_max_bytes: str = setting(
        "CALLBACKS_JSONL_MAX_BYTES",
        str(64 << 20),
        parse_text,
        "maximum size of such a file; after that a new one is started",
    )
    jsonl_gzip: str = setting("CALLBACKS_JSONL_GZIP", "false", parse_text, "`true`: compress the finished files")
    stream_url: str = setting(
        "CALLBACKS_STREAM_URL",
        "",
        parse_text,
        "Redis of the `stream` handler, a URL as in `REDIS_URL`",
        shown_default="none: `REDIS_URL` is used",
    )
    stream_key: str = setting(
        "CALLBACKS_STREAM_KEY", "callbacks", parse_text, "stream to which the `stream` handler adds events"
    )
    stream_maxlen: str = setting(
        "CALLBACKS_STREAM_MAXLEN",
        "100000",
        parse_text,
        "approximate number of entries that the stream keeps; empty: all",
    )
    # Checked by the handler too; `CALLBACKS_FORWARD_<NAME>_URL` and so on make further targets (its `targets`).
    forward_url: str = setting(
        "CALLBACKS_FORWARD_URL",
        "",
        parse_text,
        "URL to which the `forward` handler posts each event, signed",
        shown_default="none",
    )
    forward_secrets: str = setting(
        "CALLBACKS_FORWARD_SECRETS",
        "",
        parse_text,
        "secrets that sign these requests: `whsec_…`, several for rotation; `none`: unsigned",
        shown_default="none; required by the handler",
    )
    # Read by `shared.opt_outs` in the workers, and checked by the handler `optout`.
    optout_words: str = setting(
        "CALLBACKS_OPTOUT_WORDS",
        "",
        parse_text,
        "further keywords with which a reply opts out, beyond STOP and so on, separated by commas; `-WORD` removes one",
        shown_default="none",
    )
    optin_words: str = setting(
        "CALLBACKS_OPTIN_WORDS",
        "",
        parse_text,
        "further keywords with which a reply opts in again, beyond START and so on; `-WORD` removes one",
        shown_default="none",
    )
    log_file: str = setting(
        "CALLBACKS_LOG_FILE", "", parse_text, "file to which the `log` handler writes", shown_default="standard output"
    )
    log_numbers: str = setting(
        "CALLBACKS_LOG_NUMBERS",
        "masked",
        one_of("masked", "full"),
        "`masked`, or `full`: the `log` handler writes whole phone numbers",
        read_by=(),
    )
