"""The settings of notices."""

from dataclasses import dataclass
from typing import ClassVar

from shared.setting_groups.setting import setting
from shared.setting_values import RUNBOOK, integer, parse_runbook_url, parse_seconds, parse_targets, parse_text


@dataclass(frozen=True, kw_only=True)
class NoticeSettings:
    """Where notices go, when, and where their runbook is."""

    title: ClassVar = "Notices"

    # Whether Apprise knows a URL is checked where it is imported: callbacks.ops.notices.targets.
    notify: tuple[str, ...] = setting(
        "CALLBACKS_NOTIFY",
        "",
        parse_targets,
        "where `callbacks ops` sends notices: URLs of Apprise (mail, Slack, Teams, Telegram and others), or "
        "`webhook+https://…` for signed POSTs; several are separated by spaces or commas",
        shown_default="none",
        from_file=True,
        read_by=("ops", "notify"),
    )
    notify_secret: str = setting(
        "CALLBACKS_NOTIFY_SECRET",
        "",
        parse_text,
        "secret that signs the notices to `webhook+https://…`: `whsec_…`, several for rotation",
        shown_default="none; required by such a URL",
        from_file=True,
        read_by=("ops", "notify"),
    )
    notify_after_seconds: float = setting(
        "CALLBACKS_NOTIFY_AFTER_SECONDS",
        "30",
        parse_seconds,
        "seconds that a condition must last before a notice says so; it is over after twice that time without it",
        read_by=("ops",),
    )
    notify_silence_seconds: int = setting(
        "CALLBACKS_NOTIFY_SILENCE_SECONDS",
        "0",
        integer(0, 366 * 86400),
        "seconds without any callback that are an alert, on the page and as a notice; 0: never",
        read_by=("ops", "cells"),
    )
    runbook_url: str = setting(
        "CALLBACKS_RUNBOOK_URL",
        RUNBOOK,
        parse_runbook_url,
        "URL of `/runbook` of `callbacks ops`, or of your own runbook: notices, alerts and the dashboard "
        "link to its sections",
        read_by=("ops",),
    )
