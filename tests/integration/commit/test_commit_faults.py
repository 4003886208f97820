"""Commits that Redis refuses: full, read-only, unavailable, without a replica; and what their senders get."""

import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress

from shared import keys
from tests.integration.commit.test_commit_durability import post_all
from tests.integration.harness import open_harness
from tests.redis_server import RedisServer, StartRedis
from tests.web_process import StartWeb, counts, kept, payload, report, until


def test_a_full_redis_refuses_and_keeps_what_it_has(start_web: StartWeb, start_redis: StartRedis) -> None:
    server = start_redis()
    web = start_web(server)
    assert web.post(report(1)).status_code == 200
    with server.client() as client:
        client.config_set("maxmemory", int(client.info("memory")["used_memory"]) + 30_000)
    statuses = post_all(web, [report(number) + b" " * 20_000 for number in range(2, 12)], connections=1)
    assert set(statuses) <= {200, 503}
    assert 503 in statuses
    assert len(kept(server)) == 1 + statuses.count(200)
    with server.client() as client:
        client.config_set("maxmemory", 0)
    until(web.ready)
    assert web.post(report(3)).status_code == 200


def test_a_redis_that_turned_read_only_is_503(start_web: StartWeb, start_redis: StartRedis) -> None:
    primary, server = start_redis(), start_redis()
    web = start_web(server)
    assert web.post(report(1)).status_code == 200
    with server.client() as client:
        client.replicaof("127.0.0.1", primary.port)
    answer = web.post(report(2))
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "30")
    with server.client() as client:
        client.replicaof("NO", "ONE")
    until(web.ready)
    assert web.post(report(3)).status_code == 200


def test_a_connection_that_broke_while_idle_costs_no_callback(start_web: StartWeb, start_redis: StartRedis) -> None:
    server = start_redis()
    web = start_web(server)
    for number in range(5):
        assert web.post(report(number)).status_code == 200
        with server.client() as client:
            client.client_kill_filter(_type="normal", skipme=True)
    assert len(kept(server)) == 5
    assert "action=commit_failed" not in web.output


def test_a_commit_whose_reply_was_lost_is_repeated_once_and_counted_as_often_as_it_is_stored(
    start_web: StartWeb, start_redis: StartRedis
) -> None:
    server = start_redis()
    with one_answer_lost(server) as (url, lose):
        web = start_web(url)
        assert web.post(report(1)).status_code == 200
        lose.set()
        assert web.post(report(2)).status_code == 200
    assert web.output.count("action=commit_retried") == 1
    assert [callback.body.encode() for callback in kept(server)] == [report(1), report(2), report(2)]
    assert counts(server) == {"report.received": 3}
    with open_harness(server.url) as harness:
        assert harness.audit().balances
        harness.expand()
        sums = harness.audit()
    assert (sums.unique, sums.duplicate, sums.missing) == (2, 1, 0)


def test_level_replica_needs_a_replica_that_has_the_callback(start_web: StartWeb, start_redis: StartRedis) -> None:
    server = start_redis({"repl-diskless-sync-delay": "0"})
    replica = start_redis({"replicaof": f"127.0.0.1 {server.port}", "replica-read-only": "yes"})
    web = start_web(server, CALLBACKS_DURABILITY="replica")
    until(web.ready)
    assert web.post(report(1)).status_code == 200
    assert len(kept(replica)) == 1
    replica.pause()
    try:
        answer = web.post(report(2))
        assert (answer.status_code, answer.json()["type"]) == (503, "urn:problem-type:callbacks:store-unavailable")
        assert "NOREPLICAS" in web.output
    finally:
        replica.resume()
    replica.kill()
    until(lambda: not web.ready())
    assert web.post(report(3)).status_code == 503
    replica.start()
    until(web.ready)
    assert web.post(report(4)).status_code == 200


def test_no_redis_error_writes_a_body_to_the_log(start_web: StartWeb, start_redis: StartRedis) -> None:
    server = start_redis()
    with server.client() as client:
        client.set(keys.COUNTS, "not a hash")
        client.set(keys.QUARANTINE, "not a set")
    web = start_web(server)
    for body in (payload("reply"), payload("status_unreadable"), b"35699000001 not JSON"):
        answer = web.post(body, "")
        assert (answer.status_code, answer.json()["type"]) == (503, "urn:problem-type:callbacks:store-unavailable")
    assert "action=commit_failed" in web.output
    assert "WRONGTYPE" in web.output
    assert "Grazzi" not in web.output
    assert "3569900" not in web.output


@contextmanager
def one_answer_lost(server: RedisServer) -> Iterator[tuple[str, threading.Event]]:
    """Stand between a client and `server`; once the event is set, break the next connection that sends an EXEC.

    The transaction is executed, but who sent it hears nothing.
    """
    lose, lost = threading.Event(), threading.Event()
    clients: list[socket.socket] = []

    def serve(client: socket.socket) -> None:
        with client, socket.create_connection(("127.0.0.1", server.port)) as upstream:
            losing = threading.Event()

            def ask() -> None:
                while asked := client.recv(1 << 20):
                    if b"EXEC" in asked and lose.is_set() and not lost.is_set():
                        losing.set()
                    upstream.sendall(asked)
                upstream.shutdown(socket.SHUT_WR)

            asking = threading.Thread(target=ask)
            asking.start()
            while answered := upstream.recv(1 << 20):
                if losing.is_set():
                    lost.set()
                    break
                client.sendall(answered)
            client.shutdown(socket.SHUT_RDWR)
            asking.join()

    with socket.create_server(("127.0.0.1", 0)) as listening, ThreadPoolExecutor(16) as pool:

        def accept() -> None:
            while True:
                try:
                    client, _ = listening.accept()
                except OSError:
                    return
                clients.append(client)
                pool.submit(serve, client)

        pool.submit(accept)
        try:
            yield f"redis://127.0.0.1:{listening.getsockname()[1]}/0", lose
        finally:
            for end in [listening, *clients]:
                with suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)
    assert lost.is_set()
