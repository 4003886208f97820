"""The settings of the workers, and of every process."""

from dataclasses import dataclass
from typing import ClassVar

from shared.setting_groups.setting import setting
from shared.setting_values import parse_level, parse_log_format, parse_names, parse_text, parse_writable_file


@dataclass(frozen=True, kw_only=True)
class ProcessSettings:
    """What the workers read, and what every process reads."""

    title: ClassVar = "Workers, and every process"

    handlers: tuple[str, ...] = setting(
        "CALLBACKS_HANDLERS",
        "log",
        parse_names,
        "installed handlers and dotted modules, separated by commas",
        read_by=("expand", "deliver", "command"),
    )
    run_dir: str = setting(
        "CALLBACKS_RUN_DIR",
        "./var/run",
        parse_text,
        "folder of the completion journals, which keep finished events from being delivered twice; empty: none",
        may_be_empty=True,
    )
    heartbeat_file: str = setting(
        "CALLBACKS_HEARTBEAT_FILE",
        "",
        parse_writable_file,
        "file whose time the process renews every second while it works, for a probe; one for each process",
        shown_default="none",
        read_by=("web", "expand", "deliver", "ops"),
    )
    log_level: str = setting(
        "CALLBACKS_LOG_LEVEL",
        "INFO",
        parse_level,
        "level of the service's own log on standard error: `DEBUG`, `INFO`, `WARNING` or `ERROR`",
    )
    log_format: str = setting(
        "CALLBACKS_LOG_FORMAT", "text", parse_log_format, "form of that log: `text` (logfmt) or `json`, a line each"
    )
