"""What `callbacks dev` keeps between starts, and how other commands find it."""

import stat
from pathlib import Path

import click
import msgspec
import pytest
from click.testing import CliRunner

from callbacks.cli import dev, folder_lock, kept_secret, main, ports, running_dev
from callbacks.cli.dev_environment import DevEnvironment
from callbacks.cli.running_dev import RunningDev
from shared.errors import CallbacksError
from tests.redis_server import free_port

RUNNING = RunningDev("redis://default:s3cret@127.0.0.1:28001/0", "log,orders", "http://127.0.0.1:8080/callbacks/token")

ENVIRONMENT = DevEnvironment("http://127.0.0.1:8080", "http://127.0.0.1:8081", RUNNING.callbacks_url, "log", {})


def test_a_dev_is_found_only_while_it_runs(tmp_path: Path) -> None:
    assert running_dev.find(tmp_path) is None
    with folder_lock.lock(tmp_path, owner="dev"):
        running_dev.write(tmp_path, RUNNING)
        assert running_dev.find(tmp_path) == RUNNING
    assert running_dev.find(tmp_path) is None
    assert stat.S_IMODE((tmp_path / "running.json").stat().st_mode) == 0o600


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({}, "this uses the `callbacks dev` in var/dev"),
        ({"REDIS_URL": f"redis://127.0.0.1:{free_port()}/0"}, ""),
    ],
)
def test_commands_use_it_unless_a_redis_is_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    for variable in ("REDIS_URL", "CALLBACKS_HANDLERS"):
        monkeypatch.setenv(variable, environment.get(variable, ""))
    url = RUNNING.redis_url.replace("28001", str(free_port()))
    with folder_lock.lock(running_dev.DEFAULT_FOLDER, owner="dev"):
        running_dev.write(running_dev.DEFAULT_FOLDER, RunningDev(url, "log", RUNNING.callbacks_url))
        result = CliRunner().invoke(main.main, ["audit"], prog_name="callbacks")

    assert result.exit_code == 1
    assert message in result.stderr
    assert ("callbacks dev" in result.stderr) == bool(message)


@pytest.mark.parametrize("command", ["jobs", "messages", "stats"])
def test_the_history_is_that_of_the_database_of_dev(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    monkeypatch.chdir(tmp_path)
    for variable in ("REDIS_URL", "DATABASE_URL", "CALLBACKS_HANDLERS"):
        monkeypatch.setenv(variable, "")
    with folder_lock.lock(running_dev.DEFAULT_FOLDER, owner="dev"):
        running_dev.write(
            running_dev.DEFAULT_FOLDER, msgspec.structs.replace(RUNNING, database_url="sqlite:///of-dev.db")
        )
        found = CliRunner().invoke(main.main, [command], prog_name="callbacks")
        monkeypatch.setenv("DATABASE_URL", "sqlite:///mine.db")
        set_by_user = CliRunner().invoke(main.main, [command], prog_name="callbacks")

    assert "DATABASE_URL is not set: this uses the `callbacks dev` in var/dev" in found.stderr
    assert "of-dev.db has no messages yet" in found.stderr
    assert set_by_user.stderr.startswith("Error: sqlite:///mine.db has no messages yet")


def test_a_port_is_kept_until_another_process_has_it(tmp_path: Path) -> None:
    file = tmp_path / "port"
    port = ports.kept_port(file)

    assert ports.kept_port(file) == port
    with ports.listen("127.0.0.1", port):
        assert ports.kept_port(file) != port


@pytest.mark.parametrize("content", ["", "none", "-1", "99999999"])
def test_a_file_without_a_port_is_written_anew(tmp_path: Path, content: str) -> None:
    (tmp_path / "port").write_text(content)

    assert ports.kept_port(tmp_path / "port") == int((tmp_path / "port").read_text())


def test_a_secret_is_kept_and_its_owners_alone(tmp_path: Path) -> None:
    file = tmp_path / "token"
    secret = kept_secret.read(file)

    assert len(secret) > 20
    assert kept_secret.read(file) == secret
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_a_folder_that_cannot_be_written_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    with (
        pytest.raises(CallbacksError, match=r"dev cannot be written \(Not a directory\): make it writable, or name"),
        folder_lock.lock(tmp_path / "file" / "dev", owner="dev"),
    ):
        pass


def test_so_is_a_file_in_it_and_no_other(tmp_path: Path) -> None:
    folder = tmp_path / "dev"
    folder.mkdir()
    (folder / "redis").touch()

    with (
        pytest.raises(
            CallbacksError, match=r"dev/redis/port cannot be written \(Not a directory\): make it writable, or"
        ),
        folder_lock.lock(folder, owner="dev"),
    ):
        (folder / "redis" / "port").touch()
    with pytest.raises(FileNotFoundError), folder_lock.lock(folder, owner="dev"):
        (tmp_path / "nothing" / "file").touch()


@pytest.mark.parametrize("value", ["example.com", "ftp://example.com", "https://", "https://[x", "https://x/?q=1"])
def test_a_public_url_must_be_one(value: str) -> None:
    result = CliRunner().invoke(dev.dev, ["--public-url", value])

    assert result.exit_code == 2
    assert "is not a URL such as https://" in result.stderr


def test_a_public_url_takes_the_place_of_the_local_one(capsys: pytest.CaptureFixture[str]) -> None:
    url = dev._public_url(click.Context(dev.dev), dev.dev.params[0], "https://shop.example.com/")
    dev.print_urls(ENVIRONMENT, public_url=url, url_file=Path("var/dev/redis-url"))

    output = capsys.readouterr().out
    assert "cloudflared" not in output
    assert "callback_url  https://shop.example.com/callbacks/token/status" in output
    assert "  callbacks simulate http://127.0.0.1:8080/callbacks/token --destinations 20 --replies 5\n" in output
    assert "  callbacks simulate http://127.0.0.1:8080/callbacks/token --sample undelivered\n" in output


def test_without_one_a_line_says_how_to_get_it(capsys: pytest.CaptureFixture[str]) -> None:
    dev.print_urls(ENVIRONMENT, public_url=None, url_file=Path("var/dev/redis-url"))

    (line,) = (line for line in capsys.readouterr().out.splitlines() if "HTTPS" in line)
    assert "`cloudflared tunnel --url http://127.0.0.1:8080`" in line
    assert "`ngrok http 8080`" in line
    assert "`callbacks dev --public-url https://…`" in line


@pytest.mark.parametrize(
    ("variable", "words"),
    [
        ("", "find this service if they start in this folder"),
        ("REDIS_URL", "need:\n\n  export REDIS_URL=$(cat "),
        ("REDIS_URL_FILE", " REDIS_URL_FILE= CALLBACKS_HANDLERS=log\n"),
    ],
)
def test_it_says_how_other_commands_find_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], variable: str, words: str
) -> None:
    if variable:
        monkeypatch.setenv(variable, "redis://127.0.0.1:1/0")
    dev.print_urls(ENVIRONMENT, public_url=None, url_file=Path("var/dev/redis-url"))

    assert words in capsys.readouterr().out
