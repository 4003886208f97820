"""Answering when the client is no longer there."""

import asyncio
import socket

import pytest
import uvloop
from starlette.types import Message, Receive, Scope

from ingest import answers
from ingest.answers import Answer
from ingest.endpoint import Endpoint

SCOPE: Scope = {"type": "http", "method": "POST", "headers": []}


async def body_that_never_comes() -> Message:
    await asyncio.Event().wait()
    raise AssertionError


@pytest.mark.parametrize("answer", [answers.ACCEPTED, answers.not_found(), answers.store_unavailable(30)])
def test_an_answer_on_a_closed_connection_is_logged_in_a_line_and_raises_nothing(
    answer: Answer, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> None:
        ours, theirs = socket.socketpair()
        transport, _ = await asyncio.get_running_loop().connect_accepted_socket(asyncio.Protocol, ours)
        transport.close()
        await asyncio.sleep(0.01)

        async def handler(_scope: Scope, _receive: Receive) -> Answer:
            return answer

        async def send(_message: Message) -> None:
            transport.write(b"x")  # uvloop raises RuntimeError if it is closed, asyncio does nothing

        await Endpoint("here", handler)(SCOPE, body_that_never_comes, send)
        theirs.close()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(scenario())
    assert f"action=response_not_sent count=1 status={answer.status} why=RuntimeError" in caplog.text
    assert "Traceback" not in caplog.text


def test_the_end_of_the_time_to_drain_ends_the_discarding_of_a_refused_body(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def scenario() -> list[Message]:
        sent: list[Message] = []

        async def handler(_scope: Scope, _receive: Receive) -> Answer:
            return answers.body_too_large(1)

        async def send(message: Message) -> None:
            sent.append(message)

        endpoint = Endpoint("here", handler)
        answering = asyncio.create_task(endpoint(SCOPE, body_that_never_comes, send))
        await asyncio.sleep(0.01)
        answering.cancel()
        await answering
        return sent

    sent = asyncio.run(scenario())
    assert [message["type"] for message in sent] == ["http.response.start", "http.response.body"]
    assert "action=response_not_sent count=1 status=413 why=CancelledError" in caplog.text
