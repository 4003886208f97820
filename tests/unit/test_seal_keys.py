"""The file of CALLBACKS_SEAL_KEYS_FILE: which keys it holds, and what is wrong with one, without a word of a key."""

import base64
import importlib.util
from pathlib import Path

import pytest

from callbacks.distribution import install_command
from shared import seal_keys, settings
from shared.errors import ConfigurationError

FIRST, SECOND = bytes(range(32)), bytes(range(100, 132))
FIRST_TEXT, SECOND_TEXT = base64.b64encode(FIRST).decode(), SECOND.hex()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "keys"


def problem(file: Path) -> str:
    with pytest.raises(ConfigurationError) as error:
        settings.load({"CALLBACKS_SEAL_KEYS_FILE": str(file)})
    (found,) = error.value.problems
    return found


def test_it_has_one_key_a_line_in_base64_or_hexadecimal_digits(file: Path) -> None:
    file.write_text(f"# made in May\n{FIRST_TEXT}\n\n  {SECOND_TEXT}  \n")

    keys = settings.load({"CALLBACKS_SEAL_KEYS_FILE": str(file)}).seal_keys

    assert [key.secret for key in keys] == [FIRST, SECOND]
    assert len({key.id for key in keys}) == 2


def test_without_the_setting_there_is_no_key() -> None:
    assert settings.load({}).seal_keys == ()


def test_no_repr_shows_a_key(file: Path) -> None:
    file.write_text(FIRST_TEXT)

    loaded = settings.load({"CALLBACKS_SEAL_KEYS_FILE": str(file)})

    assert FIRST_TEXT not in repr(loaded)
    assert repr(FIRST)[2:-1] not in repr(loaded)


@pytest.mark.parametrize(
    "line",
    [
        "correct horse battery staple",
        base64.b64encode(FIRST[:16]).decode(),
        base64.b64encode(FIRST + SECOND).decode(),
        "00" * 32,
        FIRST_TEXT[:-3],
        f"{FIRST_TEXT} # the first",
        f"“{FIRST_TEXT}”",
        f"{FIRST_TEXT[:-1]}ä",
    ],
)
def test_a_line_that_is_not_a_key_is_named_and_not_shown(file: Path, line: str) -> None:
    file.write_text(f"{SECOND_TEXT}\n{line}\n")

    found = problem(file)

    assert found.startswith(f"CALLBACKS_SEAL_KEYS_FILE: {file}: line 2 is not a key")
    assert line not in found


def test_the_mark_with_which_an_editor_begins_a_file_is_no_part_of_a_key(file: Path) -> None:
    file.write_text(FIRST_TEXT, encoding="utf-8-sig")

    assert [key.secret for key in settings.load({"CALLBACKS_SEAL_KEYS_FILE": str(file)}).seal_keys] == [FIRST]


def test_a_key_stands_there_once(file: Path) -> None:
    file.write_text(f"{FIRST_TEXT}\n{FIRST.hex()}\n")

    assert "line 2 is a key that another line has too" in problem(file)


@pytest.mark.parametrize(("content", "expected"), [(b"# none\n", "has no key"), (b"\xff\xfe", "not text in UTF-8")])
def test_a_file_without_keys_is_wrong(file: Path, content: bytes, expected: str) -> None:
    file.write_bytes(content)

    assert expected in problem(file)


def test_a_missing_file_is_wrong(file: Path) -> None:
    assert problem(file) == f"CALLBACKS_SEAL_KEYS_FILE: {file} cannot be read: No such file or directory"


def test_without_its_library_it_says_what_to_install(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file.write_text(FIRST_TEXT)
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)

    with pytest.raises(ValueError, match="needs the package cryptography") as error:
        seal_keys.parse_seal_keys(str(file))

    assert str(error.value).endswith(install_command("seal"))
