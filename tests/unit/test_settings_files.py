"""Secrets may be in files, as containers and systemd provide them, with an error for anything wrong."""

from pathlib import Path

import pytest

from shared import settings
from shared.errors import ConfigurationError

VALUES = {
    "REDIS_URL": ("redis_url", "redis://:s3cret@redis/0"),
    "CALLBACKS_CELLS": ("cells", "a=redis://:s3cret@redis/0,b=redis://:s3cret@other/0"),
    "CALLBACKS_TOKENS": ("tokens", "main=s3cret-s3cret"),
    "DATABASE_URL": ("database_url", "postgresql://callbacks:s3cret@db/callbacks"),
    "CALLBACKS_OPS_PASSWORD": ("ops_password", "s3cret-s3cret"),
}
each_variable = pytest.mark.parametrize("variable", VALUES)


def problem(environ: dict[str, str]) -> str:
    with pytest.raises(ConfigurationError) as error:
        settings.load(environ)
    (message,) = error.value.problems
    assert "s3cret" not in message
    return message


@each_variable
@pytest.mark.parametrize("end", ["", "\n", "\r\n"])
def test_a_secret_in_a_file_counts_as_the_value_of_its_variable(variable: str, end: str, tmp_path: Path) -> None:
    field, value = VALUES[variable]
    (tmp_path / "secret").write_bytes(f"{value}{end}".encode())

    read = settings.load({f"{variable}_FILE": str(tmp_path / "secret")})

    assert getattr(read, field) == getattr(settings.load({variable: value}), field)


def test_a_file_satisfies_a_command_that_needs_the_variable(tmp_path: Path) -> None:
    (tmp_path / "url").write_text("redis://h/0\n")

    assert settings.load({"REDIS_URL_FILE": str(tmp_path / "url")}, needs=("REDIS_URL",)).redis_url == "redis://h/0"


@each_variable
def test_both_a_variable_and_its_file_are_an_error(variable: str, tmp_path: Path) -> None:
    value = VALUES[variable][1]
    (tmp_path / "secret").write_text(value)

    message = problem({variable: value, f"{variable}_FILE": str(tmp_path / "secret")})

    assert message.startswith(f"{variable} and {variable}_FILE are both set")


@each_variable
def test_a_missing_file_is_named(variable: str, tmp_path: Path) -> None:
    message = problem({f"{variable}_FILE": str(tmp_path / "gone")})

    assert message == f"{variable}_FILE: {tmp_path / 'gone'} cannot be read: No such file or directory"


@each_variable
def test_an_empty_file_is_an_error(variable: str, tmp_path: Path) -> None:
    (tmp_path / "empty").write_text("\n")

    assert problem({f"{variable}_FILE": str(tmp_path / "empty")}).startswith(f"{variable}_FILE: ")


def test_a_file_that_is_not_text_is_not_quoted(tmp_path: Path) -> None:
    (tmp_path / "binary").write_bytes(b"s3cret\xff")

    assert "not text in UTF-8" in problem({"CALLBACKS_TOKENS_FILE": str(tmp_path / "binary")})


def test_a_wrong_value_in_a_file_is_reported_under_the_variables_name(tmp_path: Path) -> None:
    (tmp_path / "tokens").write_text("s3cret-without-a-name")

    assert problem({"CALLBACKS_TOKENS_FILE": str(tmp_path / "tokens")}).startswith("CALLBACKS_TOKENS: entry 1")
