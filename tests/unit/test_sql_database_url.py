"""DATABASE_URL: valid values, and no message with its password. And the texts that columns hold."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from workers.handlers.sql import database_url, texts
from workers.handlers.sql.database_url import DatabaseUrl

SECRET = "s3cr:t/p%s"


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("", "sqlite:///var/callbacks.db"),
        (" sqlite:////srv/x.db ", "sqlite:////srv/x.db"),
        ("postgres://u:s3cr%3At@h/x", "postgresql://u:***@h/x"),
        ("postgresql://h:5433/x?sslmode=require&sslpassword=s3cr", "postgresql://h:5433/x"),
        ("postgresql+psycopg://u:s3cr%40t@[::1]:5433/x", "postgresql://u:***@[::1]:5433/x"),
        ("postgresql://u:s3cr@one:5432,two:5433/x?sslmode=require", "postgresql://u:***@one:5432,two:5433/x"),
        ("postgresql://one,[::1]:5433/x", "postgresql://one,[::1]:5433/x"),
        ("postgresql://u:s3cr@/x?host=one,two&port=5432,5433", "postgresql://u:***@one:5432,two:5433/x"),
        ("postgresql://u:s3cr@/x?host=one:5432&host=two:5433", "postgresql://u:***@one:5432,two:5433/x"),
    ],
)
def test_what_it_may_be_and_how_it_is_shown(url: str, shown: str) -> None:
    address = DatabaseUrl.parse(url)
    assert address.redacted_url == shown
    assert "s3cr" not in repr(address)


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("mysql://u:s3cret@h/x", "must begin with sqlite:/// or postgresql://"),
        ("s3cret", "must begin with"),
        ("postgresql://u:s3cr@s3cret@h/x", "%40 for an @"),
        ("postgresql://u:s3cret@h:port/x", "cannot be read"),
        ("postgresql://u:s3cret@one:5432,two:port/x", "several hosts: @host1:5432,host2:5432/name"),
        ("postgresql://u:s3cret@one:5432,,two:5432/x", "several hosts: @host1:5432,host2:5432/name"),
        ("postgresql://u:s3cret@/x?host=one,two,three&port=1,2", "its hosts and ports do not match"),
        ("postgresql://u:s3cret@/x?host=one:1&host=two:2&port=3", "its hosts and ports do not match"),
        ("sqlite://", "names no file"),
        ("sqlite:///:memory:", "names no file"),
        ("sqlite://s3cret/x.db", "names no file"),
        ("sqlite:////", "is a folder"),
        ("sqlite:///" + "x" * 300, "cannot be used: File name too long"),
    ],
)
def test_what_it_may_not_be_is_reported_without_its_secrets(url: str, message: str) -> None:
    with pytest.raises(ValueError, match=r"^DATABASE_URL: ") as error:
        DatabaseUrl.parse(url)
    assert message in str(error.value)
    assert "s3cr" not in str(error.value)
    assert error.value.__cause__ is None


def test_a_secret_is_taken_out_of_any_text_however_it_is_spelled() -> None:
    address = DatabaseUrl.parse("postgresql://u:s3cr%3At%2Fp%25s@h/x?passfile=/srv/hidden")
    for spelled in (SECRET, "s3cr%3At%2Fp%25s", "/srv/hidden"):
        assert address.redact(f"no {spelled}, no") == "no ***, no"


@pytest.mark.parametrize(
    ("user", "password"),
    [("callbacks", "callbacks"), ("user", "p"), ("user", "password"), ("callbacks1", "callbacks1")],
)
def test_a_password_that_is_an_ordinary_word_cuts_no_other_word(user: str, password: str) -> None:
    address = DatabaseUrl.parse(f"postgresql://{user}:{password}@h/x")
    said = f'connection to port 5432 failed: FATAL: password authentication failed for user "{user}"'

    assert address.redact(said) == said


@pytest.mark.parametrize("password", ["p", "callbacks", "s3cr%3At%2Fp%25s"])
def test_a_password_is_masked_where_it_is_the_password(password: str) -> None:
    address = DatabaseUrl.parse(f"postgresql://callbacks:{password}@callbacks/callbacks")

    assert address.redact(f"at postgresql://callbacks:{password}@callbacks/callbacks") == (
        "at postgresql://callbacks:***@callbacks/callbacks"
    )
    assert address.redact(f"no option in user=callbacks password='{password}'") == (
        "no option in user=callbacks password='***'"
    )


def test_a_wrong_one_stops_the_start_and_its_password_is_not_told() -> None:
    ended = subprocess.run(
        [sys.executable, "-c", "from workers import registry; registry.load(['sql'])"],
        env={**os.environ, "DATABASE_URL": "postgresql://u:s3c@ret@h/x"},
        check=False,
        capture_output=True,
        text=True,
    )
    assert ended.returncode == 1
    assert "HandlerError: CALLBACKS_HANDLERS: 'sql': its settings: DATABASE_URL: cannot be" in ended.stderr
    assert "s3c" not in ended.stderr


# --- texts


def test_nul_and_halves_of_surrogate_pairs_are_shown_by_what_stands_for_them() -> None:
    assert texts.storable("a\0b") == "a\u2400b"
    assert texts.storable("é\0\ud83d") == "é\u2400\ufffd"
    assert texts.storable("👋🏽 \ufffd") == "👋🏽 \ufffd"


def test_a_key_is_the_text_itself_up_to_its_length_and_beyond_it_short_and_its_own() -> None:
    assert texts.storable_key("x" * texts.KEY_CHARACTERS) == "x" * texts.KEY_CHARACTERS
    long = [texts.storable_key("👋" * 100_000 + end) for end in ("a", "b")]
    assert long[0] != long[1]
    assert {len(key) for key in long} == {texts.KEY_CHARACTERS}
    assert texts.optional_key(None) is None


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@example({"\ud83d": "\0 ␀ 👋"})
@given(st.dictionaries(st.text(st.characters(exclude_categories=())), values, max_size=3))
def test_raw_reads_back_as_it_was_and_every_database_takes_it(raw: dict[str, object]) -> None:
    text = texts.json_text(raw)
    assert json.loads(text) == raw
    assert "\0" not in text
    text.encode()


def test_the_handler_finds_the_address_in_a_file_too(tmp_path: Path) -> None:
    (tmp_path / "url").write_text("sqlite:////srv/x.db\n")

    assert (
        DatabaseUrl.parse(database_url.read_url({"DATABASE_URL_FILE": str(tmp_path / "url")})).redacted_url
        == "sqlite:////srv/x.db"
    )
    assert database_url.read_url({"DATABASE_URL": "sqlite:////srv/y.db"}) == "sqlite:////srv/y.db"
    assert database_url.read_url({}) == ""


@pytest.mark.parametrize(
    ("url", "hosts", "ports"),
    [
        ("postgresql://u:p@one:5432,two:5433/x", "one,two", "5432,5433"),
        ("postgresql://u:p@one,two:5433/x?sslmode=require", "one,two", ",5433"),
        ("postgresql://[::1]:5432,[::2]:5433/x", "::1,::2", "5432,5433"),
        ("postgresql://one,two", "one,two", ","),
    ],
)
def test_each_of_several_hosts_is_given_to_libpq_with_its_port(url: str, hosts: str, ports: str) -> None:
    address = DatabaseUrl.parse(url)
    _, given = address.url.get_dialect()().create_connect_args(address.url)
    assert (given["host"], given["port"]) == (hosts, ports)
