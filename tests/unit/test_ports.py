"""Ports that `callbacks dev` and `demo` choose for the processes that they start."""

import socket

import pytest

from callbacks.cli import ports
from tests.redis_server import free_port


def test_a_free_port_is_not_one_for_outgoing_connections() -> None:
    assert {ports.free_port() in range(28_000, 32_768) for _ in range(200)} == {True}


def test_a_port_in_use_is_skipped(monkeypatch: pytest.MonkeyPatch) -> None:
    free = free_port()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        monkeypatch.setattr(ports, "_FREE_PORTS", [taken.getsockname()[1], free])
        monkeypatch.setattr(ports, "_TRIES", 2)
        assert {ports.free_port() for _ in range(20)} == {free}


def test_no_free_port_is_an_error_that_names_the_range(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        monkeypatch.setattr(ports, "_FREE_PORTS", range(port, port + 1))
        monkeypatch.setattr(ports, "_TRIES", 1)
        with pytest.raises(ports.NoPort, match=f"no free port found between {port}"):
            ports.free_port()
