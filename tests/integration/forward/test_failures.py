"""What becomes of an event when its target refuses it, answers badly, or does not answer."""

import asyncio
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from callbacks import Delivered, Pause, Reject, Retry, samples
from tests.integration.forward.services import DELIVERED, Answer, Request, in_turn, says, sent, serving, target, writes
from tests.redis_server import free_port
from workers.handlers.forward import sender as sending
from workers.handlers.forward.sender import HandlerReturn, Sender

# Seconds: the time-out where no response comes; long enough to send a request on a busy machine.
SHORT = "1"


def outcome(answer: Answer, **options: str) -> HandlerReturn:
    with serving(answer) as service:
        (found,) = sent(target(service.url, **options), samples.report())
        assert len(service.requests) == 1, "one attempt is one request"
        return found


@pytest.mark.parametrize("status", [200, 201, 202, 204, 299])
def test_any_2xx_is_done(status: int) -> None:
    assert outcome(says(status)) == DELIVERED


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_a_redirect_is_not_followed(status: int) -> None:
    with serving(says(200)) as elsewhere:
        found = outcome(says(status, headers={"Location": elsewhere.url}))

    assert isinstance(found, Retry)
    assert f"answered {status}" in found.reason
    assert elsewhere.connections == 0


def test_a_refused_event_is_rejected_with_the_response() -> None:
    found = outcome(says(422, b'{"error":"no such order \xff\x1b[31m"}' + b"x" * 5000))

    assert isinstance(found, Reject)
    assert 'answered 422: {"error":"no such order \ufffd [31m"}xxx' in found.reason
    assert len(found.reason) < 2300
    assert "s3cr3t" not in found.reason


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504, 599, 600, 999])
def test_an_error_of_the_target_is_retried(status: int) -> None:
    found = outcome(says(status, b"busy"))

    assert isinstance(found, Retry)
    assert found.reason.endswith(f"answered {status}: busy")
    assert found.after_seconds is None


@pytest.mark.parametrize("status", [429, 503])
def test_retry_after_pauses_the_whole_queue(status: int) -> None:
    found = outcome(says(status, b"secret body", headers={"Retry-After": "17"}))

    assert isinstance(found, Pause)
    assert found.after_seconds == 17
    assert found.reason.endswith(f"answered {status}"), "no body: operators see it"


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        pytest.param(writes(b""), "closed the connection without an answer", id="closed"),
        pytest.param(writes(b"SSH-2.0-OpenSSH_9.9\r\n\r\n"), "something that is not HTTP", id="not HTTP"),
        pytest.param(writes(b"HTTP/1.1 abc\r\n\r\n"), "something that is not HTTP", id="no status"),
        pytest.param(writes(b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n"), "not HTTP", id="bad length"),
        pytest.param(writes(b"HTTP/1.1 200 OK\r\nX: " + b"x" * 200_000), "not HTTP", id="endless head"),
        pytest.param(writes(b"HTTP/1.1 101 Switching Protocols\r\n\r\n"), "not HTTP", id="other protocol"),
        pytest.param(writes(b"", then_close=False), "did not answer in time", id="silent"),
        pytest.param(writes(b"HTTP/1.1 200 OK\r\nX: ", then_close=False), "did not answer in time", id="half a head"),
    ],
)
def test_a_missing_or_broken_response_is_described_in_words(answer: Answer, message: str) -> None:
    found = outcome(answer, TIMEOUT_SECONDS=SHORT if "in time" in message else "20")

    assert isinstance(found, Retry)
    assert message in found.reason
    assert "SSH" not in found.reason
    assert "s3cr3t" not in found.reason


def test_a_slow_head_counts_into_the_time_out() -> None:
    async def trickle(_request: Request, writer: asyncio.StreamWriter) -> None:
        for byte in b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nX-Slow: " + b"x" * 10_000:
            writer.write(bytes((byte,)))
            await writer.drain()
            await asyncio.sleep(0.01)

    found = outcome(trickle, TIMEOUT_SECONDS=SHORT)

    assert isinstance(found, Retry)
    assert "did not answer in time" in found.reason


def test_endless_informational_responses_count_into_the_time_out() -> None:
    async def hints(_request: Request, writer: asyncio.StreamWriter) -> None:
        while not writer.is_closing():
            writer.write(b"HTTP/1.1 103 Early Hints\r\n\r\n")
            await writer.drain()
            await asyncio.sleep(0.005)

    assert isinstance(outcome(hints, TIMEOUT_SECONDS=SHORT), Retry)


@contextmanager
def resetting() -> Iterator[str]:
    """Yield the URL of a listener that resets the first connection after it has read something."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def reset() -> None:
            accepted, _ = listener.accept()
            accepted.recv(100)
            accepted.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            accepted.close()

        thread = threading.Thread(target=reset)
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/"
        thread.join()


def test_a_reset_connection_is_retried() -> None:
    with resetting() as url:
        (found,) = sent(target(url), samples.report())

    assert isinstance(found, Retry)
    assert "connection" in found.reason


def test_a_refused_connection_is_retried() -> None:
    (found,) = sent(target(f"http://127.0.0.1:{free_port()}/"), samples.report())

    assert isinstance(found, Retry)
    assert "could not be connected to" in found.reason


def test_an_unknown_host_is_retried() -> None:
    (found,) = sent(target("https://nobody.invalid/"), samples.report())

    assert isinstance(found, Retry)
    assert "nobody.invalid cannot be resolved" in found.reason


def flood(status: int, service: list[int]) -> Answer:
    """Return an answer with a body of ten billion bytes; `service[0]` counts the bytes that were read."""

    async def answer(_request: Request, writer: asyncio.StreamWriter) -> None:
        writer.write(f"HTTP/1.1 {status} OK\r\nContent-Length: 10000000000\r\n\r\n".encode())
        block = b"y" * 65536
        for _ in range(10**10 // len(block)):
            writer.write(block)
            await writer.drain()
            service[0] += len(block)

    return answer


@pytest.mark.parametrize(("status", "kind"), [(200, Delivered), (400, Reject), (500, Retry)])
def test_a_body_of_ten_gigabytes_is_not_read(status: int, kind: type) -> None:
    read = [0]

    assert isinstance(outcome(flood(status, read)), kind)
    assert read[0] < 64 << 20, "what the sockets' buffers hold"


@pytest.mark.parametrize(("status", "kind"), [(200, Delivered), (400, Reject), (500, Retry)])
def test_a_body_without_end_does_not_change_the_result(
    status: int, kind: type, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sending, "BODY_SECONDS", 0.05)
    head = f"HTTP/1.1 {status} OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n"

    found = outcome(writes(head.encode(), then_close=False))

    assert isinstance(found, kind)
    assert (found.detail if isinstance(found, Delivered) else found.reason).endswith("abc")


def test_a_truncated_body_does_not_change_the_result() -> None:
    assert outcome(writes(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nabc")) == DELIVERED


def test_a_compressed_body_is_not_unpacked() -> None:
    bomb = b"\x1f\x8b\x08\x00" + b"\x00" * 40
    found = outcome(says(400, bomb, headers={"Content-Encoding": "gzip"}))

    assert isinstance(found, Reject)


def test_five_failures_in_a_row_pause_the_queue_and_one_success_ends_it() -> None:
    down, up = writes(b""), says(200)
    with serving(in_turn(*[down] * 7, up, down)) as service:
        found = sent(Sender(target(service.url)), *(samples.report() for _ in range(9)))

    assert [type(one) for one in found] == [Retry] * 4 + [Pause] * 3 + [Delivered, Retry]
    assert [one.after_seconds for one in found if isinstance(one, Pause)] == [5, 10, 20]


def test_calls_under_way_when_the_pause_begins_burn_no_attempt() -> None:
    release = asyncio.Event()

    async def together(request: Request, writer: asyncio.StreamWriter) -> None:
        if request.number == 20:
            release.set()
        await release.wait()
        writer.close()

    with serving(together) as service:
        sender = Sender(target(service.url))

        async def send() -> list[HandlerReturn]:
            async with sender.open():
                return list(await asyncio.gather(*(sender.send(samples.report()) for _ in range(20))))

        found = asyncio.run(send())

    assert sum(isinstance(one, Retry) for one in found) == 4
    assert sum(isinstance(one, Pause) for one in found) == 16
    assert max(one.after_seconds for one in found if isinstance(one, Pause)) == 5, "and none of them doubles it"


@pytest.mark.parametrize("status", [301, 401, 403, 404, 421])
def test_a_target_that_refuses_everything_is_in_trouble(status: int) -> None:
    with serving(says(status)) as service:
        found = sent(Sender(target(service.url)), *(samples.report() for _ in range(5)))

    assert [type(one) for one in found] == [Retry] * 4 + [Pause]
    assert isinstance(found[4], Pause)
    assert found[4].reason.endswith(f"answered {status}")


def test_an_event_that_is_refused_among_accepted_ones_is_retried_after_thirty_seconds() -> None:
    with serving(in_turn(says(200), says(404), says(200), says(404), says(404))) as service:
        found = sent(Sender(target(service.url)), *(samples.report() for _ in range(5)))

    assert [one.after_seconds for one in found if isinstance(one, Retry)] == [30.0, 30.0, None]


def test_a_refused_event_shows_that_the_target_works() -> None:
    with serving(in_turn(says(500), says(500), says(500), says(500), says(400), says(500))) as service:
        found = sent(Sender(target(service.url)), *(samples.report() for _ in range(9)))

    assert [type(one) for one in found] == [Retry] * 4 + [Reject] + [Retry] * 4
