"""A wrong setting stops the processes that read it, with its name, and no other: each process with each setting."""

import sys
from pathlib import Path
from typing import Final, get_args

import pytest
from click.testing import CliRunner

from callbacks.cli import ops_address, ports, web, worker
from callbacks.cli.main import main
from shared import logs, settings
from shared.errors import ConfigurationError
from shared.setting_groups.setting import Process
from workers import registry
from workers.handlers.jsonl import handler as jsonl

# Nothing listens there.
BASE: Final = {"REDIS_URL": "redis://127.0.0.1:1/0", "CALLBACKS_TOKENS": "acme=a-long-enough-token"}
PROCESSES: Final[dict[Process, str]] = {
    "web": "web --port 0",
    "expand": "worker expand",
    "deliver": "worker deliver --handler jsonl",
    "ops": "ops --port 0",
}
SETTINGS: Final = {each.variable: each for each in settings.BY_FIELD.values()}
# A wrong value of each setting, as it is in the environment.
WRONG: Final = {
    "PORT": "80000",
    "WEB_CONCURRENCY": "0",
    "CALLBACKS_METRICS_PORT": "80000",
    "REDIS_URL": "redis://127.0.0.1:1/0?socket_timout=5",
    "REDIS_URL_FILE": "/nowhere",
    "CALLBACKS_CELLS": "nameless",
    "CALLBACKS_CELLS_FILE": "/nowhere",
    "CALLBACKS_WEB_METRICS": "nowhere",
    "CALLBACKS_TOKENS": "nameless",
    "CALLBACKS_TOKENS_FILE": "/nowhere",
    "CALLBACKS_ALLOWED_IPS": "somewhere",
    "CALLBACKS_TRUSTED_PROXIES": "somewhere",
    "CALLBACKS_MAX_BODY_BYTES": "1",
    "CALLBACKS_BODY_TIMEOUT_SECONDS": "0",
    "CALLBACKS_DURABILITY": "always",
    "CALLBACKS_SPOOL_MAX_BYTES": "1",
    "CALLBACKS_SEAL_KEYS_FILE": "/nowhere",
    "CALLBACKS_DEDUPE_SECONDS": "0",
    "CALLBACKS_HANDLERS": "sql+log",
    "CALLBACKS_QUARANTINE_MAX_BYTES": "1",
    "CALLBACKS_DEAD_LETTER_MAX_BYTES": "1",
    "CALLBACKS_RETENTION_DAYS": "0",
    "CALLBACKS_SQL_RETENTION_DAYS": "a week",
    "CALLBACKS_JSONL_RETENTION_DAYS": "1.5",
    "CALLBACKS_STREAM_RETENTION_DAYS": "-1",
    "CALLBACKS_FAILURES_RETENTION_DAYS": "367",
    "CALLBACKS_ACTIONS_RETENTION_DAYS": "367",
    "CALLBACKS_DELIVERY_LOG_BYTES": "1",
    "CALLBACKS_OPS_PASSWORD": "short",
    "CALLBACKS_OPS_PASSWORD_FILE": "/nowhere",
    "CALLBACKS_OPS_READ_PASSWORD": "short",
    "CALLBACKS_OPS_READ_PASSWORD_FILE": "/nowhere",
    "CALLBACKS_OPS_TRUSTED_USER_HEADER": "remote user",
    "CALLBACKS_OPS_TRUSTED_GROUPS_HEADER": "remote groups",
    "CALLBACKS_OPS_ACT_GROUPS": "operators",
    "CALLBACKS_OPS_TOKENS": "nameless",
    "CALLBACKS_OPS_TOKENS_FILE": "/nowhere",
    "CALLBACKS_OPS_REQUESTS_PER_MINUTE": "0",
    "CALLBACKS_OPS_PORT": "80000",
    "CALLBACKS_NOTIFY": "somewhere",
    "CALLBACKS_NOTIFY_FILE": "/nowhere",
    "CALLBACKS_NOTIFY_SECRET_FILE": "/nowhere",
    "CALLBACKS_NOTIFY_AFTER_SECONDS": "0",
    "CALLBACKS_NOTIFY_SILENCE_SECONDS": "soon",
    "CALLBACKS_OVERDUE_SECONDS": "0",
    "CALLBACKS_FORGET_SQL": "hide",
    "CALLBACKS_FORGET_SECRET": "short",
    "CALLBACKS_FORGET_SECRET_FILE": "/nowhere",
    "CALLBACKS_RUNBOOK_URL": "wiki",
    "CALLBACKS_LOG_LEVEL": "lots",
    "CALLBACKS_LOG_FORMAT": "xml",
    "CALLBACKS_HEARTBEAT_FILE": "/proc/folder/heartbeat",
    "DATABASE_URL_FILE": "/nowhere",
    "CALLBACKS_LOG_NUMBERS": "some",
    # Of another handler than the one whose workers start here.
    "DATABASE_URL": "mysql://u@h/x",
    "CALLBACKS_STREAM_URL": "localhost",
    "CALLBACKS_STREAM_KEY": "rq:mine",
    "CALLBACKS_STREAM_MAXLEN": "0",
    "CALLBACKS_FORWARD_URL": "ftp://crm.example/",
    "CALLBACKS_FORWARD_SECRETS": "abc",
    "CALLBACKS_LOG_FILE": "/proc/log/file",
    "CALLBACKS_OPTOUT_WORDS": "!!!",
    "CALLBACKS_OPTIN_WORDS": "STOP",
}
OF_OTHER_HANDLERS: Final = tuple(list(WRONG)[list(WRONG).index("DATABASE_URL") :])
# Read by the handler that starts here, in its own worker processes.
OF_THIS_HANDLER: Final = {
    "CALLBACKS_JSONL_DIR": "/proc/folder",
    "CALLBACKS_JSONL_MAX_BYTES": "1",
    "CALLBACKS_JSONL_GZIP": "maybe",
}
# Any text is right, until it is used.
NEVER_WRONG: Final = (
    "HOST",
    "CALLBACKS_METRICS_HOST",
    "CALLBACKS_OPS_HOST",
    "CALLBACKS_SPOOL_DIR",
    "CALLBACKS_RUN_DIR",
    # Unless a target needs it.
    "CALLBACKS_NOTIFY_SECRET",
)


def readers(variable: str) -> frozenset[str]:
    """Return which of the processes read a variable."""
    if variable in OF_OTHER_HANDLERS:
        return frozenset()
    setting = SETTINGS.get(variable) or SETTINGS[variable.removesuffix("_FILE")]
    return frozenset(process for process in PROCESSES if setting.is_read_by(process))


@pytest.fixture
def started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return a list in which a process says that it has read its settings and goes on."""
    monkeypatch.chdir(tmp_path)
    for row in settings.table_rows():
        monkeypatch.delenv(row.variable, raising=False)
    monkeypatch.setattr(logs, "configure", lambda: None)
    found: list[str] = []

    def record(*_: object, **__: object) -> None:
        found.append("started")
        sys.exit(0)

    # What follows in each: an address is bound; or modules are imported, and Redis is waited for.
    monkeypatch.setattr(ports, "listen", record)
    monkeypatch.setattr(ops_address, "bind", record)
    monkeypatch.setattr(worker, "_known", record)
    # It keeps what it has read once.
    jsonl._files.cache_clear()
    return found


def environ(variable: str, value: str) -> dict[str, str]:
    given = {**BASE, "CALLBACKS_HANDLERS": "jsonl,log,sql,stream,forward", variable: value}
    if variable.endswith("_FILE"):
        given.pop(variable.removesuffix("_FILE"), None)
    return given


@pytest.mark.parametrize("process", PROCESSES)
@pytest.mark.parametrize("variable", WRONG)
def test_a_wrong_setting_stops_the_processes_that_read_it_and_no_other(
    variable: str, process: Process, started: list[str]
) -> None:
    given = environ(variable, WRONG[variable])

    ended = CliRunner().invoke(main, PROCESSES[process].split(), env=given)

    if process in readers(variable):
        assert (ended.exit_code, started) == (2, [])
        assert variable in ended.output
    else:
        assert (ended.exit_code, started) == (0, ["started"]), ended.output


@pytest.mark.parametrize("variable", WRONG)
def test_so_it_is_in_each_of_several_web_processes(variable: str, started: list[str]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environ(variable, WRONG[variable]).items():
            patch.setenv(name, value)
        if "web" in readers(variable):
            with pytest.raises(ConfigurationError, match=variable):
                web.app()
        else:
            web.app()


@pytest.mark.parametrize("variable", [*OF_OTHER_HANDLERS, *OF_THIS_HANDLER])
def test_a_handlers_wrong_setting_stops_its_own_workers_alone(variable: str, started: list[str]) -> None:
    value = (WRONG | OF_THIS_HANDLER)[variable]
    with pytest.MonkeyPatch.context() as patch:
        for name, given in environ(variable, value).items():
            patch.setenv(name, given)
        found = registry.load_each(["jsonl"], with_settings=True)

    assert bool(found.problems) == (variable in OF_THIS_HANDLER), found.problems


def test_each_setting_and_each_process_is_tried() -> None:
    files = {f"{variable}_FILE" for variable, each in SETTINGS.items() if each.from_file}

    assert set(WRONG) | set(OF_THIS_HANDLER) | set(NEVER_WRONG) == SETTINGS.keys() | files
    assert set(PROCESSES) == set(get_args(Process)) - {"command", "cells", "history", "notify"}
