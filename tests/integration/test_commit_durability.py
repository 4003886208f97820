"""I1: no 200 before the commit that holds the callback is durable; and what a batch costs and survives."""

import asyncio
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress

import pytest
from rq import Queue
from rq.job import JobStatus

from shared import keys, queues
from tests.integration.conftest import (
    TOKEN,
    StartRedis,
    StartWeb,
    WebProcess,
    counts,
    jobs,
    kept,
    payload,
    quarantine,
    report,
    until,
)
from tests.redis_server import RedisServer


def post_all(web: WebProcess, bodies: list[bytes], *, connections: int = 100) -> list[int]:
    """Post `bodies` over many connections at once; gives the statuses."""

    async def connection(mine: list[bytes]) -> list[int]:
        reader, writer = await asyncio.open_connection("127.0.0.1", web.port)
        statuses = []
        for body in mine:
            writer.write(request(body))
            head = await reader.readuntil(b"\r\n\r\n")
            statuses.append(int(head.split()[1]))
            await reader.readexactly(int(head.lower().partition(b"content-length: ")[2].split()[0]))
        writer.close()
        await writer.wait_closed()
        return statuses

    async def post() -> list[int]:
        shares = [bodies[place::connections] for place in range(connections)]
        return [status for told in await asyncio.gather(*map(connection, shares)) for status in told]

    return asyncio.run(post())


def request(body: bytes) -> bytes:
    """Give the bytes of a callback's request."""
    return b"POST /callbacks/%s/status HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s" % (
        TOKEN.encode(),
        len(body),
        body,
    )


@pytest.mark.parametrize(
    "body", [report(1), payload("status_unreadable"), b"not JSON"], ids=["kept", "quarantined", "not JSON"]
)
def test_i1_nobody_hears_anything_while_redis_has_not_answered(
    start_web: StartWeb, start_redis: StartRedis, body: bytes
) -> None:
    server = start_redis()
    web = start_web(server)
    assert web.post(report(0)).status_code == 200  # from now on only the commit itself waits for Redis
    server.pause()
    try:
        with socket.create_connection(("127.0.0.1", web.port), timeout=1) as connection:
            connection.sendall(request(body))
            with pytest.raises(TimeoutError):
                connection.recv(4096)
            server.resume()
            connection.settimeout(60)
            assert connection.recv(4096).split()[1] == (b"400" if body == b"not JSON" else b"200")
    finally:
        server.resume()
    assert len(kept(server)) + len(quarantine(server)) == 2


def test_i1_what_was_acknowledged_outlives_a_kill_of_redis_at_any_moment(
    start_web: StartWeb, start_redis: StartRedis
) -> None:
    server = start_redis()
    web = start_web(server)
    assert web.ready()
    acknowledged: list[int] = []
    number = 0
    for _ in range(3):
        enough, over = threading.Event(), threading.Event()

        def post(first: int, enough: threading.Event = enough, over: threading.Event = over) -> list[int]:
            mine: list[int] = []
            with web.client() as client:
                for mark in range(first, first + 100_000):
                    if over.is_set():
                        break
                    if client.post(f"/callbacks/{TOKEN}/status", content=report(mark)).status_code == 200:
                        mine.append(mark)
                        if len(mine) == 30:
                            enough.set()
            return mine

        with ThreadPoolExecutor(8) as pool:
            posting = [pool.submit(post, number + 1_000_000 * thread) for thread in range(8)]
            assert enough.wait(60)
            server.kill()
            over.set()
            acknowledged += [mark for done in posting for mark in done.result()]
        number += 100_000
        server.start()
        until(web.ready)
    found = {callback.body.encode() for callback in kept(server)}
    assert len(acknowledged) >= 90
    assert not {report(mark) for mark in acknowledged} - found


def test_i1_a_single_callback_is_on_disk_when_its_200_is_heard(start_web: StartWeb, start_redis: StartRedis) -> None:
    server = start_redis()
    web = start_web(server)
    for number in range(5):
        assert web.post(report(number)).status_code == 200
        server.kill()
        server.start()
        until(web.ready)
    assert [callback.body.encode() for callback in kept(server)] == [report(number) for number in range(5)]


def test_a_hundred_at_once_become_few_jobs_and_none_is_lost(web: WebProcess, redis_server: RedisServer) -> None:
    bodies = [report(number) for number in range(2000)]
    assert post_all(web, bodies) == [200] * 2000
    found = jobs(redis_server)
    assert sorted(callback.body.encode() for job in found for callback in job) == sorted(bodies)
    assert len(found) < 1000
    assert max(map(len, found)) > 1
    assert counts(redis_server) == {"report.received": 2000}


def test_a_job_is_one_that_rq_can_read(web: WebProcess, redis_server: RedisServer) -> None:
    assert web.post(report(1)).status_code == 200
    with redis_server.client(decode_responses=False) as client:
        queue = Queue(queues.EXPAND, connection=client, serializer=queues.JsonSerializer)
        assert queue in Queue.all(client, serializer=queues.JsonSerializer)
        [job] = queue.jobs
        assert (job.func_name, job.get_status(), job.description) == (
            queues.EXPAND_JOB,
            JobStatus.QUEUED,
            "1 callbacks",
        )


def test_kept_and_quarantined_share_commits(web: WebProcess, redis_server: RedisServer) -> None:
    bodies = [report(number) for number in range(50)] + [payload("status_unreadable")] * 50
    assert post_all(web, bodies) == [200] * 100
    assert len(kept(redis_server)) == 50
    assert len(quarantine(redis_server)) == 50
    assert counts(redis_server) == {
        "report.received": 100,
        "report.quarantined": 50,
    }


def test_clients_that_vanish_during_their_commit_harm_nobody(start_web: StartWeb, start_redis: StartRedis) -> None:
    server = start_redis()
    web = start_web(server)
    assert web.ready()
    server.pause()
    vanishing = [socket.create_connection(("127.0.0.1", web.port), timeout=60) for _ in range(20)]
    for number, connection in enumerate(vanishing):
        connection.sendall(request(report(number)))
    for connection in vanishing:
        connection.close()
    with ThreadPoolExecutor(1) as pool:
        staying = pool.submit(web.post, report(1000))
        server.resume()
        assert staying.result().status_code == 200
    until(lambda: len(kept(server)) == 21)
    assert "Traceback" not in web.output


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


def test_a_commit_whose_answer_got_lost_is_repeated_once_and_counted_as_often_as_it_is_there(
    start_web: StartWeb, start_redis: StartRedis
) -> None:
    server = start_redis()
    with one_answer_lost(server) as (url, lose):
        web = start_web(url)
        assert web.post(report(1)).status_code == 200
        lose.set()
        assert web.post(report(2)).status_code == 200
    assert web.output.count("action=commit_repeated") == 1
    assert [callback.body.encode() for callback in kept(server)] == [report(1), report(2), report(2)]
    assert counts(server) == {"report.received": 3}


def test_replica_level_rests_on_a_replica_that_has_it(start_web: StartWeb, start_redis: StartRedis) -> None:
    server = start_redis({"repl-diskless-sync-delay": "0"})
    replica = start_redis({"replicaof": f"127.0.0.1 {server.port}", "replica-read-only": "yes"})
    web = start_web(server, CALLBACKS_DURABILITY="replica")
    until(web.ready)
    assert web.post(report(1)).status_code == 200
    assert len(kept(replica)) == 1
    replica.pause()
    try:
        answer = web.post(report(2))
        assert (answer.status_code, answer.json()["type"]) == (503, "urn:problem-type:callbacks:not-kept")
        assert "NOREPLICAS" in web.output
    finally:
        replica.resume()
    replica.kill()
    until(lambda: not web.ready())
    assert web.post(report(3)).status_code == 503
    replica.start()
    until(web.ready)
    assert web.post(report(4)).status_code == 200


def test_no_error_of_redis_puts_a_body_into_the_log(start_web: StartWeb, start_redis: StartRedis) -> None:
    server = start_redis()
    with server.client() as client:
        client.set(keys.COUNTS, "not a hash")
        client.set(keys.QUARANTINE, "not a set")
    web = start_web(server)
    for body in (payload("reply"), payload("status_unreadable"), b"35699000001 not JSON"):
        answer = web.post(body, "")
        assert (answer.status_code, answer.json()["type"]) == (503, "urn:problem-type:callbacks:not-kept")
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
