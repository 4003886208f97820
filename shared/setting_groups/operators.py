"""The settings of `callbacks ops`: the operators' page and `/api`."""

from dataclasses import dataclass
from typing import ClassVar

from shared.setting_groups.setting import setting
from shared.setting_values import (
    HostPort,
    OperatorToken,
    integer,
    parse_header_name,
    parse_host_ports,
    parse_list,
    parse_operator_tokens,
    parse_password,
    parse_text,
)


@dataclass(frozen=True, kw_only=True)
class OperatorSettings:
    """Where the operators' page is, and who may see it and act."""

    title: ClassVar = "Operators' page"

    ops_host: str = setting(
        "CALLBACKS_OPS_HOST", "127.0.0.1", parse_text, "address on which the operators' page listens"
    )
    ops_port: int = setting(
        "CALLBACKS_OPS_PORT", "8081", integer(0, 65535), "port of the operators' page", read_by=("ops",)
    )
    ops_password: str = setting(
        "CALLBACKS_OPS_PASSWORD",
        "",
        parse_password,
        "password of the operators' page, at least 12 characters; without it the page is on a loopback address only",
        shown_default="none",
        from_file=True,
        read_by=("ops",),
    )
    ops_read_password: str = setting(
        "CALLBACKS_OPS_READ_PASSWORD",
        "",
        parse_password,
        "a second password of the operators' page, at least 12 characters, for those who may see it but not act",
        shown_default="none",
        from_file=True,
        read_by=("ops",),
    )
    ops_trusted_user_header: str = setting(
        "CALLBACKS_OPS_TRUSTED_USER_HEADER",
        "",
        parse_header_name,
        "header in which a proxy of `CALLBACKS_TRUSTED_PROXIES` names the user that it signed in, such as "
        "`X-Forwarded-User`",
        shown_default="none",
        read_by=("ops",),
    )
    ops_trusted_groups_header: str = setting(
        "CALLBACKS_OPS_TRUSTED_GROUPS_HEADER",
        "",
        parse_header_name,
        "header in which that proxy names the user's groups, separated by commas, such as `X-Forwarded-Groups`",
        shown_default="none",
        read_by=("ops",),
    )
    ops_act_groups: tuple[str, ...] = setting(
        "CALLBACKS_OPS_ACT_GROUPS",
        "",
        parse_list,
        "groups whose members may act, separated by commas; all other users of that proxy may only read",
        shown_default="none: each user of that proxy may act",
        read_by=("ops",),
    )
    ops_tokens: tuple[OperatorToken, ...] = setting(
        "CALLBACKS_OPS_TOKENS",
        "",
        parse_operator_tokens,
        "bearer tokens of `/api` on the operators' port: `name:role=secret,…`; a role is `read` or `act`, a secret has "
        "at least 12 characters",
        shown_default="none: `/api` answers nobody",
        from_file=True,
        read_by=("ops",),
    )
    ops_requests_per_minute: int = setting(
        "CALLBACKS_OPS_REQUESTS_PER_MINUTE",
        "600",
        integer(1, 1_000_000),
        "requests to `/api` of each token in a minute; a tenth of them may come at once",
        read_by=("ops",),
    )
    web_metrics: tuple[HostPort, ...] = setting(
        "CALLBACKS_WEB_METRICS",
        "",
        parse_host_ports,
        "where `callbacks ops` and `top` ask the web processes for their spools while Redis is unavailable: "
        "`host:port,…`, the port as in `CALLBACKS_METRICS_PORT`; each address of a name is asked",
        shown_default="none: they are not asked",
        read_by=("ops", "cells"),
    )
