"""A target that asks for it gets `person.forget`, signed, when `callbacks forget` runs; what it refuses is left."""

import json

from cloudevents.core.bindings.http import HTTPMessage, from_http_event
from standardwebhooks import Webhook

from shared.number_search import NumberSearch
from tests.integration.forward.services import SECRET, in_turn, says, serving, target
from tests.integration.harness import declaration_of
from workers.handlers.forward.target_handler import make_handler
from workers.handlers.forward.targets import Target
from workers.personal_data.handler_data import HandlerData
from workers.personal_data.report import StoreResult

NUMBER, OTHER = "35699777123", "447700900123"


def erase(to: Target, *numbers: str, dry_run: bool = False) -> StoreResult:
    declared = declaration_of(make_handler(to))
    assert declared.forget is not None
    return HandlerData("forward", declared, declared.forget, NumberSearch(numbers)).erase(dry_run=dry_run)


def test_a_target_gets_the_number_only_if_it_asks_for_it() -> None:
    assert declaration_of(make_handler(target("http://127.0.0.1:1/"))).forget is None

    with serving(says(204)) as service:
        wanting = target(service.url, FORGET="true")
        assert erase(wanting, NUMBER, dry_run=True).found == 0
        assert service.requests == []
        assert erase(wanting, NUMBER) == StoreResult(store="handler:forward", found=1, erased=1)

    (request,) = service.requests
    assert Webhook(SECRET).verify(request.body, dict(request.headers)) == json.loads(request.body)
    read = from_http_event(HTTPMessage(headers=dict(request.headers), body=request.body))
    assert (read.get_type(), read.get_source(), read.get_data()) == ("person.forget", "/callbacks", {"number": NUMBER})
    assert read.get_id() == request.headers["webhook-id"]


def test_what_a_target_refuses_is_left_with_the_reason_and_sent_again_by_the_next_run() -> None:
    with serving(in_turn(says(500, b"later"), says(200), says(200), says(200))) as service:
        wanting = target(service.url, FORGET="true")
        first = erase(wanting, NUMBER, OTHER)
        second = erase(wanting, NUMBER, OTHER)

    address = service.url.rpartition("/")[0]
    assert first == StoreResult(
        store="handler:forward",
        found=2,
        erased=1,
        left=1,
        why=f"not erased: {address} answered 500: later; run this again",
        failed=True,
    )
    assert (second.erased, second.is_complete) == (2, True)
    assert len(service.requests) == 4


def test_a_reason_that_quotes_the_number_is_not_shown() -> None:
    with serving(says(422, f"unknown: +{NUMBER}".encode())) as service:
        result = erase(target(service.url, FORGET="true"), NUMBER)

    assert (result.left, result.why) == (1, "its forget function raised Retry")


def test_an_unreachable_target_is_named() -> None:
    with serving(says(200)) as service:
        pass
    result = erase(target(service.url, FORGET="true"), NUMBER)

    assert result.why.startswith("not erased: http://127.0.0.1")
    assert (result.found, result.left) == (1, 1)
