"""`callbacks web` as a process: how it starts, how it drains, and what it imports."""

import signal
import socket
import subprocess
import sys

import pytest

from tests.redis_server import RedisServer, StartRedis, free_port
from tests.web_process import TOKEN, StartWeb, WebProcess, kept, report, until

HEAD = b"POST /callbacks/%s/status HTTP/1.1\r\nHost: x\r\n" % TOKEN.encode()


def read_status(connection: socket.socket) -> int:
    """Return an answer's status; 0 if the connection ended without one."""
    received = b""
    while b"\r\n\r\n" not in received:
        piece = connection.recv(4096)
        if not piece:
            return 0
        received += piece
    return int(received.split()[1])


def begin(web: WebProcess, body: bytes) -> socket.socket:
    """Start a request, and return its connection once the server waits for the body."""
    connection = socket.create_connection(("127.0.0.1", web.port), timeout=60)
    connection.sendall(HEAD + b"Content-Length: %d\r\nExpect: 100-continue\r\n\r\n" % len(body))
    assert read_status(connection) == 100
    return connection


def accepts(web: WebProcess) -> bool:
    try:
        socket.create_connection(("127.0.0.1", web.port), timeout=60).close()
    except OSError:
        return False
    return True


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("processes", ["1", "2"])
def test_a_signal_completes_every_request_under_way_and_exits_with_0(
    start_web: StartWeb, redis_server: RedisServer, how: signal.Signals, processes: str
) -> None:
    web = start_web(redis_server, WEB_CONCURRENCY=processes)
    bodies = [report(number) for number in range(50)]
    uploads = [begin(web, body) for body in bodies]
    for connection, body in zip(uploads, bodies, strict=True):
        connection.sendall(body[:10])
    web.process.send_signal(how)
    until(lambda: not accepts(web))
    for connection, body in zip(uploads, bodies, strict=True):
        connection.sendall(body[10:])
    statuses = [read_status(connection) for connection in uploads]
    for connection in uploads:
        connection.close()
    assert statuses == [200] * 50
    assert web.process.wait(60) == 0
    assert {callback.body.encode() for callback in kept(redis_server)} == set(bodies)
    assert "Traceback" not in web.output


def test_a_commit_under_way_at_the_signal_is_finished(start_web: StartWeb, start_redis: StartRedis) -> None:
    server = start_redis()
    web = start_web(server)
    bodies = [report(number) for number in range(10)]
    posts = [begin(web, body) for body in bodies]
    server.pause()
    for connection, body in zip(posts, bodies, strict=True):
        connection.sendall(body)
    web.process.send_signal(signal.SIGTERM)
    until(lambda: not accepts(web))
    server.resume()
    assert [read_status(connection) for connection in posts] == [200] * 10
    for connection in posts:
        connection.close()
    assert web.process.wait(60) == 0
    assert len(kept(server)) == 10


def test_when_the_time_to_drain_is_over_the_rest_get_503(start_web: StartWeb, start_redis: StartRedis) -> None:
    server = start_redis()
    web = start_web(
        server, prelude="from callbacks.cli import web\nweb._COMMIT_SECONDS = 0", CALLBACKS_BODY_TIMEOUT_SECONDS="0.9"
    )
    assert web.post(report(1)).status_code == 200
    with begin(web, report(2)) as connection:
        server.pause()
        try:
            connection.sendall(report(2))
            assert web.stop() == 0
            received = connection.recv(4096)
        finally:
            server.resume()
    assert received.startswith(b"HTTP/1.1 503 ")
    assert b"retry-after" in received
    assert "Traceback" not in web.output


def test_a_process_without_requests_stops_at_once(start_web: StartWeb, redis_server: RedisServer) -> None:
    web = start_web(redis_server)
    with web.client() as client:  # an idle connection is not a request
        assert client.get("/livez").status_code == 200
        assert web.stop() == 0
    assert "action=stopped" in web.output


def test_a_second_signal_does_not_make_it_fail(start_web: StartWeb, redis_server: RedisServer) -> None:
    web = start_web(redis_server)
    assert web.ready()
    web.process.send_signal(signal.SIGTERM)
    web.process.send_signal(signal.SIGTERM)
    assert web.process.wait(60) == 0


def test_it_prints_its_address_even_if_the_port_was_chosen_by_the_system(
    start_web: StartWeb, redis_server: RedisServer
) -> None:
    port = free_port()
    by_variable = start_web(redis_server, arguments=(), PORT=str(port), HOST="127.0.0.1")
    assert by_variable.url == f"http://127.0.0.1:{port}"
    assert by_variable.ready()
    by_chance = start_web(redis_server, arguments=("--host", "127.0.0.1", "--port", "0"), PORT=str(port), HOST="::1")
    assert by_chance.port not in {0, port}
    assert by_chance.ready()
    assert by_chance.output.count("listening on") == 1


def test_several_processes_share_the_port(start_web: StartWeb, redis_server: RedisServer) -> None:
    web = start_web(redis_server, WEB_CONCURRENCY="3")
    until(lambda: web.output.count("action=started") == 3)
    for number in range(20):
        assert web.post(report(number)).status_code == 200
    assert web.stop() == 0
    assert len(kept(redis_server)) == 20
    assert web.output.count("action=stopped") == 3


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("CALLBACKS_TOKENS", ""),
        ("REDIS_URL", ""),
        ("CALLBACKS_ALLOWED_IPS", "nowhere"),
        ("PORT", "http"),
    ],
)
def test_a_wrong_setting_stops_the_start_and_is_named(
    start_web: StartWeb, redis_server: RedisServer, variable: str, value: str
) -> None:
    web = start_web(redis_server, **{variable: value})
    assert web.process.wait(60) == 2
    assert variable in web.output
    assert "Traceback" not in web.output


def test_a_port_in_use_is_an_error(start_web: StartWeb, redis_server: RedisServer) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        web = start_web(redis_server, arguments=("--port", str(taken.getsockname()[1])))
        assert web.process.wait(60) == 2
    assert "cannot listen on 127.0.0.1 port" in web.output
    assert "Traceback" not in web.output


def test_the_web_process_imports_no_worker() -> None:
    program = (
        "import sys\n"
        "from ingest.app import create_app\n"
        "create_app()\n"
        "print(sorted(name for name in sys.modules if name.partition('.')[0] == 'workers'))\n"
    )
    environment = {"REDIS_URL": "redis://127.0.0.1:1", "CALLBACKS_TOKENS": "gateway=x"}
    result = subprocess.run(
        [sys.executable, "-W", "error", "-c", program], env=environment, capture_output=True, text=True, check=False
    )
    assert (result.stdout, result.returncode) == ("[]\n", 0), result.stderr
