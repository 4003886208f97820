"""I1: no 200 before the commit that holds the callback is durable; and what a batch costs and survives."""

import asyncio
import socket
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from rq import Queue
from rq.job import JobStatus

from shared import queues
from tests.redis_server import RedisServer, StartRedis
from tests.web_process import TOKEN, StartWeb, WebProcess, counts, jobs, kept, payload, quarantine, report, until


def post_all(web: WebProcess, bodies: list[bytes], *, connections: int = 100) -> list[int]:
    """Post `bodies` over many connections at once, and return the statuses."""

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
        shares = [bodies[number::connections] for number in range(connections)]
        return [
            status for statuses_of_one in await asyncio.gather(*map(connection, shares)) for status in statuses_of_one
        ]

    return asyncio.run(post())


def request(body: bytes) -> bytes:
    """Return the bytes of a callback's request."""
    return b"POST /callbacks/%s/status HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s" % (
        TOKEN.encode(),
        len(body),
        body,
    )


@pytest.mark.parametrize(
    "body", [report(1), payload("status_unreadable"), b"not JSON"], ids=["kept", "quarantined", "not JSON"]
)
def test_i1_no_response_is_sent_before_redis_has_answered(
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


def test_i1_acknowledged_callbacks_survive_a_kill_of_redis_at_any_moment(
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


def test_i1_a_single_callback_is_on_disk_when_its_200_arrives(start_web: StartWeb, start_redis: StartRedis) -> None:
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


def test_accepted_and_quarantined_callbacks_share_commits(web: WebProcess, redis_server: RedisServer) -> None:
    bodies = [report(number) for number in range(50)] + [payload("status_unreadable")] * 50
    assert post_all(web, bodies) == [200] * 100
    assert len(kept(redis_server)) == 50
    assert len(quarantine(redis_server)) == 50
    assert counts(redis_server) == {
        "report.received": 100,
        "report.quarantined": 50,
    }


def test_clients_that_disconnect_during_their_commit_affect_no_other(
    start_web: StartWeb, start_redis: StartRedis
) -> None:
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
