"""Secrets may stand in files, as containers and systemd hand them over; whatever is wrong there is told in words."""

from pathlib import Path

import pytest

from shared import settings
from shared.errors import ConfigurationError

VALUES = {
    "REDIS_URL": ("redis_url", "redis://:s3cret@redis/0"),
    "CALLBACKS_TOKENS": ("tokens", "main=s3cret-s3cret"),
    "DATABASE_URL": ("database_url", "postgresql://callbacks:s3cret@db/callbacks"),
    "CALLBACKS_OPS_PASSWORD": ("ops_password", "s3cret-s3cret"),
}
each_variable = pytest.mark.parametrize("variable", VALUES)


def problem(environ: dict[str, str]) -> str:
    with pytest.raises(ConfigurationError) as error:
        settings.load(environ)
    (told,) = error.value.problems
    assert "s3cret" not in told
    return told


@each_variable
@pytest.mark.parametrize("end", ["", "\n", "\r\n"])
def test_what_a_file_holds_counts_as_if_it_stood_in_the_variable(variable: str, end: str, tmp_path: Path) -> None:
    field, value = VALUES[variable]
    (tmp_path / "secret").write_bytes(f"{value}{end}".encode())

    read = settings.load({f"{variable}_FILE": str(tmp_path / "secret")})

    assert getattr(read, field) == getattr(settings.load({variable: value}), field)


def test_a_file_is_as_good_as_the_variable_where_a_command_needs_it(tmp_path: Path) -> None:
    (tmp_path / "url").write_text("redis://h/0\n")

    assert settings.load({"REDIS_URL_FILE": str(tmp_path / "url")}, needs=("REDIS_URL",)).redis_url == "redis://h/0"


@each_variable
def test_both_a_variable_and_its_file_are_an_error(variable: str, tmp_path: Path) -> None:
    value = VALUES[variable][1]
    (tmp_path / "secret").write_text(value)

    told = problem({variable: value, f"{variable}_FILE": str(tmp_path / "secret")})

    assert told.startswith(f"{variable} and {variable}_FILE are both set")


@each_variable
def test_a_file_that_is_not_there_is_named(variable: str, tmp_path: Path) -> None:
    told = problem({f"{variable}_FILE": str(tmp_path / "gone")})

    assert told == f"{variable}_FILE: {tmp_path / 'gone'} cannot be read: No such file or directory"


@each_variable
def test_an_empty_file_is_an_error_as_nobody_means_that(variable: str, tmp_path: Path) -> None:
    (tmp_path / "empty").write_text("\n")

    assert problem({f"{variable}_FILE": str(tmp_path / "empty")}).startswith(f"{variable}_FILE: ")


def test_a_file_that_is_no_text_is_not_quoted(tmp_path: Path) -> None:
    (tmp_path / "binary").write_bytes(b"s3cret\xff")

    assert "not text in UTF-8" in problem({"CALLBACKS_TOKENS_FILE": str(tmp_path / "binary")})


def test_what_is_wrong_with_the_value_is_told_under_the_variables_name(tmp_path: Path) -> None:
    (tmp_path / "tokens").write_text("s3cret-without-a-name")

    assert problem({"CALLBACKS_TOKENS_FILE": str(tmp_path / "tokens")}).startswith("CALLBACKS_TOKENS: entry 1")
