"""`callbacks check` says of a wrong setting what the process that reads it says at its start, for each setting."""

import importlib
import socket
from pathlib import Path

import pytest
import uvicorn
from click.testing import CliRunner

from callbacks import Pause, samples
from callbacks.cli.main import main
from ingest.prometheus.server import MetricsServer
from shared import logs, settings
from shared.background import Background
from workers import registry
from workers.declaration import HandlerError
from workers.handlers.stream.handler import EventStream

# Nothing listens there, so nothing but the wrong value can be the cause.
REDIS = "redis://127.0.0.1:1/0"
BASE = {"REDIS_URL": REDIS, "CALLBACKS_TOKENS": "acme=a-long-enough-token", "CALLBACKS_METRICS_PORT": "0"}
FORWARD = {"CALLBACKS_FORWARD_URL": "https://crm.example/", "CALLBACKS_FORWARD_SECRETS": "none"}
SIGNED = {"CALLBACKS_NOTIFY": "webhook+https://hooks.example/"}

# By variable: a value that cannot work, and which command or handler reads it.
WRONG = [
    ("PORT", "80000", "web"),
    ("HOST", "192.0.2.1", "web"),
    ("HOST", "two..dots", "web"),
    ("WEB_CONCURRENCY", "0", "web"),
    ("CALLBACKS_METRICS_HOST", "192.0.2.1", "web"),
    ("CALLBACKS_METRICS_PORT", "80000", "web"),
    ("REDIS_URL", "localhost", "web"),
    ("CALLBACKS_WEB_METRICS", "nowhere", "ops"),
    ("CALLBACKS_CELLS", "a=redis://h/0,b=localhost", "ops"),
    ("CALLBACKS_TOKENS", "nameless", "web"),
    ("CALLBACKS_ALLOWED_IPS", "somewhere", "web"),
    ("CALLBACKS_TRUSTED_PROXIES", "somewhere", "web"),
    ("CALLBACKS_MAX_BODY_BYTES", "1", "web"),
    ("CALLBACKS_BODY_TIMEOUT_SECONDS", "0", "web"),
    ("CALLBACKS_DURABILITY", "always", "web"),
    ("CALLBACKS_SPOOL_MAX_BYTES", "1", "web"),
    ("CALLBACKS_DEDUPE_SECONDS", "0", "worker expand"),
    ("CALLBACKS_HANDLERS", "sql+log", "worker deliver"),
    ("CALLBACKS_QUARANTINE_MAX_BYTES", "1", "worker expand"),
    ("CALLBACKS_DEAD_LETTER_MAX_BYTES", "1", "worker expand"),
    ("CALLBACKS_RETENTION_DAYS", "0", "worker expand"),
    ("CALLBACKS_SQL_RETENTION_DAYS", "a week", "worker deliver"),
    ("CALLBACKS_JSONL_RETENTION_DAYS", "1.5", "worker deliver"),
    ("CALLBACKS_STREAM_RETENTION_DAYS", "-1", "worker deliver"),
    ("CALLBACKS_FAILURES_RETENTION_DAYS", "367", "worker expand"),
    ("CALLBACKS_ACTIONS_RETENTION_DAYS", "367", "worker expand"),
    ("CALLBACKS_DELIVERY_LOG_BYTES", "1", "worker deliver"),
    ("CALLBACKS_SEAL_KEYS_FILE", "/nowhere", "web"),
    ("CALLBACKS_LOG_LEVEL", "lots", "worker expand"),
    ("CALLBACKS_LOG_FORMAT", "xml", "web"),
    ("CALLBACKS_HEARTBEAT_FILE", "/proc/folder/heartbeat", "worker deliver"),
    ("CALLBACKS_OPS_HOST", "0.0.0.0", "ops"),
    ("CALLBACKS_OPS_HOST", "192.0.2.1", "ops"),
    ("CALLBACKS_OPS_PASSWORD", "short", "ops"),
    ("CALLBACKS_OPS_READ_PASSWORD", "short", "ops"),
    ("CALLBACKS_OPS_TRUSTED_USER_HEADER", "remote user", "ops"),
    ("CALLBACKS_OPS_TRUSTED_USER_HEADER", "Remote-User", "ops"),
    ("CALLBACKS_OPS_TRUSTED_GROUPS_HEADER", "remote groups", "ops"),
    ("CALLBACKS_OPS_TRUSTED_GROUPS_HEADER", "Remote-Groups", "ops"),
    ("CALLBACKS_OPS_ACT_GROUPS", "operators", "ops"),
    ("CALLBACKS_OPS_TOKENS", "nameless", "ops"),
    ("CALLBACKS_OPS_REQUESTS_PER_MINUTE", "0", "ops"),
    ("CALLBACKS_OPS_PORT", "80000", "ops"),
    ("CALLBACKS_NOTIFY", "somewhere", "ops"),
    ("CALLBACKS_NOTIFY", "nosuch://somewhere", "ops"),
    ("CALLBACKS_NOTIFY_SECRET", "abc", "ops"),
    ("CALLBACKS_NOTIFY_AFTER_SECONDS", "0", "ops"),
    ("CALLBACKS_NOTIFY_SILENCE_SECONDS", "soon", "ops"),
    ("CALLBACKS_OVERDUE_SECONDS", "0", "ops"),
    ("CALLBACKS_FORGET_SQL", "hide", "forget 35699777123"),
    ("CALLBACKS_FORGET_SECRET", "short", "forget 35699777123"),
    ("CALLBACKS_RUNBOOK_URL", "wiki", "ops"),
    ("DATABASE_URL", "mysql://u@h/x", "sql"),
    ("CALLBACKS_OPTOUT_WORDS", "!!!", "workers.handlers.optout.handler"),
    ("CALLBACKS_OPTIN_WORDS", "STOP", "workers.handlers.optout.handler"),
    ("CALLBACKS_STREAM_URL", "localhost", "stream"),
    ("CALLBACKS_STREAM_KEY", "rq:mine", "stream"),
    ("CALLBACKS_STREAM_MAXLEN", "0", "stream"),
    ("CALLBACKS_JSONL_DIR", "file", "jsonl"),
    ("CALLBACKS_JSONL_DIR", "file/folder", "jsonl"),
    ("CALLBACKS_JSONL_DIR", "/proc/folder", "jsonl"),
    ("CALLBACKS_JSONL_MAX_BYTES", "1", "jsonl"),
    ("CALLBACKS_JSONL_GZIP", "maybe", "jsonl"),
    ("CALLBACKS_FORWARD_URL", "ftp://crm.example/", "forward"),
    ("CALLBACKS_FORWARD_SECRETS", "abc", "forward"),
    ("CALLBACKS_LOG_FILE", "folder", "log"),
    ("CALLBACKS_LOG_FILE", "file/log", "log"),
    ("CALLBACKS_LOG_FILE", "/proc/log/file", "log"),
    ("CALLBACKS_LOG_NUMBERS", "some", "log"),
]
# The processes start without these folders, and say so while they run.
ONLY_ADVICE = ("CALLBACKS_SPOOL_DIR", "CALLBACKS_RUN_DIR")
# What each built-in handler keeps of its settings, by its module.
CACHES = {
    "log": "_writer",
    "jsonl.handler": "_files",
    "sql.handler": "_store",
    "optout.handler": "_store",
    "stream.handler": "_stream",
}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("")
    (tmp_path / "folder").mkdir()
    for row in settings.table_rows():
        monkeypatch.delenv(row.variable, raising=False)
    # The commands run in this process: they leave its log alone, and none may serve.
    monkeypatch.setattr(logs, "configure", lambda: None)
    monkeypatch.setattr(uvicorn.Server, "run", lambda *_args, **_options: pytest.fail("it has started"))
    for module, cache in CACHES.items():
        getattr(importlib.import_module(f"workers.handlers.{module}"), cache).cache_clear()
    return tmp_path


def check(environ: dict[str, str]) -> str:
    ended = CliRunner().invoke(main, ["check"], env=environ)
    assert ended.exit_code == 1, ended.output
    return ended.output


def start(reader: str, environ: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return what the start of a process says is wrong, for a handler what each of its workers says."""
    if _is_handler(reader):
        for name, value in environ.items():
            monkeypatch.setenv(name, value)
        with pytest.raises(HandlerError) as refused:
            registry.load([reader])
        return list(refused.value.problems)
    ended = CliRunner().invoke(main, reader.split(), env=environ)
    assert ended.exit_code == 2, ended.output
    found = [line.partition(": ") for line in ended.output.splitlines()]
    return [problem for prefix, _, problem in found if prefix in ("callbacks", "Error")]


def _is_handler(reader: str) -> bool:
    """Return whether a reader is the name or the module of a handler; else it is a process."""
    return reader in registry.installed_names() or reader.startswith("workers.handlers.")


@pytest.mark.parametrize(("variable", "value", "reader"), WRONG, ids=lambda value: value or "empty")
def test_check_says_what_the_process_says(
    variable: str, value: str, reader: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    is_handler = _is_handler(reader)
    needed = FORWARD if reader == "forward" else SIGNED if variable == "CALLBACKS_NOTIFY_SECRET" else {}
    environ = {**BASE, **needed, variable: value}
    if is_handler:
        environ["CALLBACKS_HANDLERS"] = reader

    problems = start(reader, environ, monkeypatch)

    assert any(variable in problem or value in problem for problem in problems)
    said = check(environ)
    for problem in problems:
        assert problem in said


def test_each_setting_is_tried() -> None:
    variables = {setting.variable for setting in settings.BY_FIELD.values()}

    assert {variable for variable, _, _ in WRONG} | set(ONLY_ADVICE) == variables


@pytest.mark.parametrize("variable", ONLY_ADVICE)
def test_a_folder_that_no_user_could_make_is_named(variable: str) -> None:
    assert f"{variable}: /proc/folder cannot be written: No such file" in check({**BASE, variable: "/proc/folder"})


def test_check_creates_nothing(folder: Path) -> None:
    before = sorted(folder.rglob("*"))

    check({**BASE, "CALLBACKS_HANDLERS": "log,jsonl", "CALLBACKS_LOG_FILE": "logs/events", "CALLBACKS_JSONL_DIR": "e"})

    assert sorted(folder.rglob("*")) == before


def test_an_address_that_is_in_use_is_not_wrong_as_the_service_may_run_there() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])

        assert "cannot listen" not in check({**BASE, "PORT": port, "CALLBACKS_OPS_PORT": port})


def test_a_metrics_port_that_another_program_or_setting_uses_is_wrong() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        taken.settimeout(0.01)  # it never answers
        port = str(taken.getsockname()[1])

        assert f"✗ CALLBACKS_METRICS_PORT: cannot listen on 127.0.0.1 port {port}" in check(
            {**BASE, "CALLBACKS_METRICS_PORT": port}
        )
    for other in ("PORT", "CALLBACKS_OPS_PORT"):
        said = check({**BASE, other: "28999", "CALLBACKS_METRICS_PORT": "28999"})
        assert f"✗ CALLBACKS_METRICS_PORT and {other} are both 28999\n" in said


def test_a_metrics_port_that_a_web_process_has_is_not_wrong() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        background = Background()
        server = MetricsServer(taken, lambda: b"callbacks_build_info 1\n", background=background)
        server.start()
        try:
            said = check({**BASE, "CALLBACKS_METRICS_PORT": str(taken.getsockname()[1])})
        finally:
            server.close()

    assert "CALLBACKS_METRICS_PORT" not in said


def test_a_stream_that_cannot_be_reached_is_wrong_in_the_words_of_the_handlers_pause() -> None:
    environ = {**BASE, "CALLBACKS_HANDLERS": "stream", "CALLBACKS_STREAM_URL": "redis://:s3cret@127.0.0.1:1/2"}
    with pytest.raises(Pause) as paused:
        EventStream.from_environ(environ).add([samples.report()])

    said = check(environ)

    assert f"✗ CALLBACKS_STREAM_URL: {paused.value.reason}\n" in said
    assert "s3cret" not in said


@pytest.mark.parametrize("level", ["debug", "Warning", "ERROR"])
def test_a_log_level_is_read_without_regard_to_case(level: str) -> None:
    assert settings.load({"CALLBACKS_LOG_LEVEL": level}).log_level == level.upper()


@pytest.mark.parametrize(
    ("words", "meant"),
    [(["wrker"], "worker"), (["handlers", "purg"], "purge"), (["dead", "lst"], "list"), (["Check"], "check")],
)
def test_a_misspelt_command_is_refused_with_the_one_that_was_meant(words: list[str], meant: str) -> None:
    ended = CliRunner().invoke(main, words)

    assert ended.exit_code == 2
    assert f"No such command {words[-1]!r}. Did you mean {meant!r}?" in ended.output
