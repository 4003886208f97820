"""What `callbacks dev` sets for its processes, and which settings of the user it keeps."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from callbacks.cli import dev, dev_environment, ports
from callbacks.cli.dev_environment import DevEnvironment
from shared import settings
from shared.errors import ConfigurationError
from tests.redis_server import free_port


@pytest.fixture(autouse=True)
def _port(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PORT", str(free_port()))


def made(folder: Path, *, port: int | None = None) -> DevEnvironment:
    folder.mkdir(exist_ok=True)
    return dev_environment.make(dev_environment.load(port=port), folder)


def test_its_own_token_is_in_the_url_unless_the_user_has_tokens(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = made(tmp_path)
    assert first.callbacks_url.endswith(f"/callbacks/{(tmp_path / 'token').read_text()}")
    assert first.variables["CALLBACKS_TOKENS"] == f"dev={(tmp_path / 'token').read_text()}"

    monkeypatch.setenv("CALLBACKS_TOKENS", "acme=the-first-token,other=the-second-token")
    second = made(tmp_path)
    assert second.callbacks_url.endswith("/callbacks/the-first-token")
    assert "CALLBACKS_TOKENS" not in second.variables


def test_secrets_in_files_are_as_good(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "tokens").write_text("acme=the-token-of-the-file\n")
    monkeypatch.setenv("CALLBACKS_TOKENS_FILE", str(tmp_path / "tokens"))
    monkeypatch.setenv("REDIS_URL_FILE", str(tmp_path / "missing"))

    environment = made(tmp_path)

    assert environment.callbacks_url.endswith("/callbacks/the-token-of-the-file")
    (remark,) = environment.remarks
    assert remark.startswith("REDIS_URL_FILE is not used here: `callbacks dev` runs a Redis of its own")


@pytest.mark.parametrize("value", ["a=redis://h/0,b=redis://g/0", "nonsense"])
def test_the_cells_of_the_user_are_not_those_of_its_processes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    monkeypatch.setenv("CALLBACKS_CELLS", value)

    assert made(tmp_path).variables["CALLBACKS_CELLS"] == ""


@pytest.mark.parametrize("value", ["redis://user:s3cret@shop.example.com:6379/0", "nonsense"])
def test_the_redis_of_the_user_is_not_used_and_that_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    assert made(tmp_path).remarks == ()
    monkeypatch.setenv("REDIS_URL", value)

    (remark,) = made(tmp_path).remarks

    assert "is not used here: `callbacks dev` runs a Redis of its own" in remark
    assert "s3cret" not in remark
    assert ("shop.example.com" in value) == ("shop.example.com" in remark)


@pytest.mark.parametrize(
    ("host", "local"), [("127.0.0.1", "127.0.0.1"), ("0.0.0.0", "127.0.0.1"), ("::1", "[::1]"), ("::", "[::1]")]
)
def test_it_listens_on_the_users_host_and_prints_how_this_machine_reaches_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, host: str, local: str
) -> None:
    port = free_port()
    monkeypatch.setenv("HOST", host)
    monkeypatch.setenv("PORT", str(port))

    environment = made(tmp_path)

    assert (environment.variables["HOST"], environment.variables["PORT"]) == (host, str(port))
    assert environment.url == f"http://{local}:{port}"


def test_ports_are_the_users_and_the_option_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    port, ops_port, other = free_port(), free_port(), free_port()
    monkeypatch.setenv("PORT", str(port))
    monkeypatch.setenv("CALLBACKS_OPS_PORT", str(ops_port))

    assert made(tmp_path).url == f"http://127.0.0.1:{port}"
    assert made(tmp_path).ops_url == f"http://127.0.0.1:{ops_port}"
    assert made(tmp_path, port=other).url == f"http://127.0.0.1:{other}"


def test_port_0_is_a_free_one_that_is_printed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PORT", "0")

    environment = made(tmp_path)

    assert environment.variables["PORT"] != "0"
    assert environment.url.endswith(f":{environment.variables['PORT']}")


def test_a_port_that_is_in_use_ends_it_with_the_option_that_sets_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = free_port()
    with ports.listen("127.0.0.1", port):
        with pytest.raises(ports.NoPort, match="end what uses it, or set another with --port"):
            made(tmp_path, port=port)
        monkeypatch.setenv("CALLBACKS_OPS_PORT", str(port))
        with pytest.raises(ports.NoPort, match="or set another with CALLBACKS_OPS_PORT"):
            made(tmp_path)


@pytest.mark.parametrize(("given", "level"), [("", "WARNING"), ("info", "info"), ("DEBUG", "DEBUG")])
def test_the_log_level_is_the_users(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: str, level: str) -> None:
    monkeypatch.setenv("CALLBACKS_LOG_LEVEL", given)

    assert made(tmp_path).variables["CALLBACKS_LOG_LEVEL"] == level


def test_the_users_addresses_and_this_machine_may_post(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CALLBACKS_ALLOWED_IPS", "192.0.2.0/24")

    assert made(tmp_path).variables["CALLBACKS_ALLOWED_IPS"] == "192.0.2.0/24,127.0.0.1,::1"


def test_wrong_settings_stop_it_as_they_stop_the_other_commands(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CALLBACKS_TOKENS", "nameless")

    with pytest.raises(ConfigurationError, match="CALLBACKS_TOKENS: entry 1 must be name=token"):
        dev_environment.load(port=None)
    assert CliRunner().invoke(dev.dev, []).exit_code == 2


def test_the_environment_passes_as_that_of_the_processes(tmp_path: Path) -> None:
    loaded = settings.load(made(tmp_path).variables)

    assert [token.name for token in loaded.tokens] == ["dev"]
    assert loaded.handlers == ("log",)
    assert loaded.run_dir == str(tmp_path / "run")
