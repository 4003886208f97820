"""What a target gets: a signed CloudEvent that other libraries can read, over few connections."""

import asyncio
import json

import pytest
from cloudevents.core.bindings.http import HTTPMessage, from_http_event
from standardwebhooks import Webhook, WebhookVerificationError

from callbacks import samples
from tests.integration.forward.services import (
    DELIVERED,
    OTHER_SECRET,
    SECRET,
    Request,
    in_turn,
    says,
    sent,
    serving,
    target,
)
from workers.handlers.forward.sender import Sender


def verified(request: Request, secret: str = SECRET) -> object:
    return Webhook(secret).verify(request.body, dict(request.headers))


@pytest.mark.parametrize("name", sorted(samples.named()))
def test_every_kind_of_event_is_read_by_other_libraries(name: str) -> None:
    event = samples.named()[name]
    with serving(says(204)) as service:
        assert sent(target(service.url), event) == [DELIVERED]

    (request,) = service.requests
    assert verified(request) == json.loads(request.body)
    read = from_http_event(HTTPMessage(headers=dict(request.headers), body=request.body))
    assert read.get_id() == request.headers["webhook-id"] == event.id
    assert read.get_type() == f"callbacks.{event.kind}"
    assert read.get_source() == "/callbacks/samples"
    assert read.get_subject() == (event.message_id if event.kind == "report" else event.reply_message_id)
    time = event.occurred_at or event.received_at
    assert read.get_time() == time.replace(microsecond=time.microsecond // 1000 * 1000)
    assert read.get_data() == json.loads(event.to_json())


@pytest.mark.parametrize("text", ["x" * 100_000, "Grüße 👋🏽 شكرا", "a\x00b", "\u2028\x85", "</script>\r\n\r\nGET /"])
def test_a_text_arrives_as_it_is(text: str) -> None:
    with serving(says(200)) as service:
        assert sent(target(service.url), samples.reply(text)) == [DELIVERED]

    (request,) = service.requests
    verified(request)
    assert json.loads(request.body)["data"]["text"] == text
    assert request.body.count(b"\n") == 0


def test_the_request_is_what_a_receiver_expects() -> None:
    with serving(says(200)) as service:
        url = service.url.replace("http://", "http://me:p%40ss@")
        assert sent(target(url, HEADERS="X-Api-Key=k3y=, X-Tenant=7"), samples.report()) == [DELIVERED]

    (request,) = service.requests
    assert request.target == "/events?key=s3cr3t"
    assert request.headers["host"] == service.url.split("/")[2]
    assert request.headers["content-type"] == "application/cloudevents+json"
    assert request.headers["authorization"] == "Basic bWU6cEBzcw=="
    assert (request.headers["x-api-key"], request.headers["x-tenant"]) == ("k3y=", "7")
    assert "transfer-encoding" not in request.headers


def test_with_several_secrets_each_of_them_verifies() -> None:
    with serving(says(200)) as service:
        sent(target(service.url, SECRETS=f"{SECRET}, {OTHER_SECRET}"), samples.report())

    (request,) = service.requests
    assert len(request.headers["webhook-signature"].split(" ")) == 2
    assert verified(request, SECRET) == verified(request, OTHER_SECRET)
    with pytest.raises(WebhookVerificationError):
        verified(request, "whsec_" + "A" * 32)


def test_without_a_secret_nothing_is_signed() -> None:
    with serving(says(200)) as service:
        sent(target(service.url, SECRETS="none"), samples.report())

    assert "webhook-signature" not in service.requests[0].headers
    assert "webhook-id" in service.requests[0].headers


def test_a_repeated_attempt_has_the_same_id_and_body() -> None:
    event = samples.report()
    with serving(in_turn(says(500), says(200))) as service:
        sent(target(service.url), event, event)

    first, second = service.requests
    assert first.headers["webhook-id"] == second.headers["webhook-id"]
    assert first.body == second.body


def test_one_connection_serves_one_event_after_the_other_whatever_was_answered() -> None:
    with serving(in_turn(says(200, b"{}"), says(404, b"x" * 60_000), says(500), says(204))) as service:
        sent(target(service.url), *(samples.report() for _ in range(20)))

    assert (len(service.requests), service.connections) == (20, 1)


def test_there_are_no_more_connections_than_requests_in_flight() -> None:
    with serving(says(200)) as service:
        sender = Sender(target(service.url, CONCURRENCY="3"))

        async def send() -> None:
            async with sender.open():
                await asyncio.gather(*(sender.send(samples.report()) for _ in range(50)))

        asyncio.run(send())

    assert len(service.requests) == 50
    assert 1 <= service.connections <= 3


def test_no_proxy_of_the_environment_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(says(200)) as proxy, serving(says(200)) as service:
        for name in ("http_proxy", "HTTP_PROXY", "ALL_PROXY", "all_proxy"):
            monkeypatch.setenv(name, proxy.url)
        assert sent(target(service.url), samples.report()) == [DELIVERED]

    assert (len(service.requests), proxy.connections) == (1, 0)
