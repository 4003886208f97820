"""The settings of the web process."""

from dataclasses import dataclass
from typing import ClassVar, Final

from shared.setting_groups.setting import setting
from shared.setting_values import (
    Network,
    Token,
    integer,
    optional_integer,
    parse_networks,
    parse_networks_not_empty,
    parse_seconds,
    parse_text,
    parse_tokens,
)

# The reports of 50,000 destinations, the most that one send request may name, have 10 to 15 MB. A worker needs up to
# 20 MB for each MB of the smallest records, which is within the memory that deploy/ gives it.
MAX_BODY_BYTES: Final = 16 << 20


@dataclass(frozen=True, kw_only=True)
class WebSettings:
    """What the web process reads: where it listens, whom it believes, what it accepts, and its spool."""

    title: ClassVar = "Web process"

    port: int = setting("PORT", "8080", integer(0, 65535), "port of the web process", read_by=("web",))
    host: str = setting("HOST", "127.0.0.1", parse_text, "address on which the web process listens")
    web_concurrency: int = setting(
        "WEB_CONCURRENCY", "1", integer(1, 64), "number of web processes, which share the port", read_by=("web",)
    )
    tokens: tuple[Token, ...] = setting(
        "CALLBACKS_TOKENS",
        None,
        parse_tokens,
        "tokens of the callback URLs: `name=token,…`, several for rotation; the name is the event's `source`",
        shown_default="none; required",
        from_file=True,
        read_by=("web",),
        absent=(),
    )
    allowed_ips: tuple[Network, ...] = setting(
        "CALLBACKS_ALLOWED_IPS",
        "80.252.167.60",
        parse_networks_not_empty,
        "addresses and networks that may post callbacks; `*` for any",
        read_by=("web",),
    )
    trusted_proxies: tuple[Network, ...] = setting(
        "CALLBACKS_TRUSTED_PROXIES",
        "",
        parse_networks,
        "proxies whose X-Forwarded-For is believed; it is read from the right",
        shown_default="none",
        read_by=("web", "ops"),
    )
    max_body_bytes: int = setting(
        "CALLBACKS_MAX_BODY_BYTES",
        str(4 << 20),
        integer(1024, MAX_BODY_BYTES),
        "size of the largest callback; at most 16 MiB",
        read_by=("web",),
    )
    body_timeout_seconds: float = setting(
        "CALLBACKS_BODY_TIMEOUT_SECONDS",
        "10",
        parse_seconds,
        "seconds within which a body must arrive",
        read_by=("web",),
    )
    spool_dir: str = setting(
        "CALLBACKS_SPOOL_DIR",
        "./var/spool",
        parse_text,
        "folder in which callbacks wait while Redis is unavailable; empty: no spool",
        may_be_empty=True,
    )
    spool_max_bytes: int = setting(
        "CALLBACKS_SPOOL_MAX_BYTES",
        str(1 << 30),
        integer(1 << 20, 10**15 - 1),
        "maximum size of the spool, of all web processes together",
        read_by=("web",),
    )
    metrics_host: str = setting(
        "CALLBACKS_METRICS_HOST", "127.0.0.1", parse_text, "address on which the web process serves its own `/metrics`"
    )
    metrics_port: int | None = setting(
        "CALLBACKS_METRICS_PORT",
        "",
        optional_integer(0, 65535),
        "port of the web process's own `/metrics`, which needs no Redis",
        shown_default="none: it is not served",
        read_by=("web",),
    )
