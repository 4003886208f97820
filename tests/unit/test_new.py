"""`callbacks new NAME` writes a folder to start from, and refuses a name that Python or the service uses."""

import os
import stat
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from callbacks.cli.main import main
from shared import settings
from workers import registry


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def called(name: str) -> Result:
    return CliRunner().invoke(main, ["new", "--", name], prog_name="callbacks")


def test_it_writes_a_handler_its_test_and_what_runs_them() -> None:
    result = called("orders")

    assert result.exit_code == 0, result.output
    names = {"orders.py", "test_orders.py", ".env", "Procfile", "README.md", ".gitignore"}
    assert {path.name for path in Path("orders").iterdir()} == names
    for line in ("cd orders", "python -m pytest", "callbacks dev", "callbacks simulate --sample undelivered"):
        assert f"  {line}\n" in result.output


def test_the_settings_are_secret_usable_and_kept_out_of_version_control() -> None:
    called("orders")
    called("other")
    file = Path("orders", ".env")
    lines = dict(line.split("=", 1) for line in file.read_text().splitlines() if not line.startswith("#"))
    loaded = settings.load(lines)

    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert loaded.handlers == ("orders",)
    assert len(loaded.tokens[0].secret) > 20
    assert lines["CALLBACKS_TOKENS"] not in Path("other", ".env").read_text()
    assert set(settings.load({}).allowed_ips) < set(loaded.allowed_ips)
    assert ".env" in Path("orders", ".gitignore").read_text().splitlines()


def test_the_procfile_is_that_of_the_service() -> None:
    called("orders")

    assert Path("orders", "Procfile").read_text() == (Path(__file__).parents[2] / "Procfile").read_text()


def test_a_dash_becomes_an_underscore_in_the_module() -> None:
    assert called("my-Shop").exit_code == 0

    assert "def my_shop(event" in Path("my-Shop", "my_shop.py").read_text()
    assert "class TestMyShop(" in Path("my-Shop", "test_my_shop.py").read_text()
    assert "CALLBACKS_HANDLERS=my_shop\n" in Path("my-Shop", ".env").read_text()


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("2day", "cannot be the name of a Python module: use letters"),
        ("a b", "cannot be the name of a Python module"),
        ("shop/orders", "cannot be the name of a Python module"),
        ("..", "cannot be the name of a Python module"),
        ("", "cannot be the name of a Python module"),
        ("größe", "cannot be the name of a Python module"),
        ("-orders", "cannot be the name of a Python module"),
        ("o" * 65, "is too long: use at most 64 characters"),
        ("class", "is a keyword of Python: choose another name, such as my_class."),
        ("json", "is an installed module of Python"),
        ("sys", "is an installed module of Python"),
        ("click", "is an installed module of Python"),
        ("pytest", "is an installed module of Python"),
        ("conftest", "is an installed module of Python"),
        *((name, "is a package of this service") for name in ("callbacks", "workers", "shared", "ingest")),
        *((name, "is an installed handler") for name in registry.installed_names()),
    ],
)
def test_a_name_that_cannot_be_used_is_refused_with_what_to_do(name: str, words: str) -> None:
    result = called(name)

    assert result.exit_code == 2
    assert words in " ".join(result.stderr.split())
    assert not list(Path().iterdir())


def test_a_folder_with_files_is_refused_and_stays_as_it_is() -> None:
    Path("orders").mkdir()
    Path("orders", "mine.txt").write_text("mine")

    result = called("orders")

    assert result.exit_code == 1
    assert "Error: orders has files already: choose another name, or remove them." in result.stderr
    assert [path.name for path in Path("orders").iterdir()] == ["mine.txt"]


def test_an_empty_folder_is_used_and_a_file_is_refused() -> None:
    Path("orders").mkdir()
    Path("other").touch()

    assert called("orders").exit_code == 0
    refused = called("other")
    assert (refused.exit_code, refused.stderr) == (1, "Error: other is a file: choose another name, or remove it.\n")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_cannot_be_written_is_one_sentence(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    try:
        result = called("orders")
    finally:
        tmp_path.chmod(0o700)

    assert (result.exit_code, result.stderr) == (1, "Error: orders cannot be written: Permission denied.\n")
