"""Forms of acts that no page of ours made, and acts for which Redis has no room: each is answered, and does nothing."""

from typing import Any

import pytest

from shared import audit, connections, keys
from tests.ops.running_service import Service
from tests.ops.sign_in import client_of, token
from workers.admin import action_log

# What stands under the same prefix as the entries, and is none of them.
NO_ENTRY = ("bytes", "../bytes", "x" * 65, "", "0badc0de\n")


def act(service: Service, path: str, **fields: Any) -> tuple[int, str]:
    with client_of(service) as client:
        right = {"csrf": token(client, "/quarantine"), "action_id": action_log.new_id(), "until_ms": "9" * 15}
        answer = client.post(path, data={**right, **fields}, follow_redirects=True)
        return answer.status_code, answer.text


def state(service: Service) -> tuple[object, ...]:
    with connections.connect(service.redis.url) as client:
        sums = audit.run(client)
        return client.zcard(keys.QUARANTINE), client.zcard(keys.ACTIONS), sums.dropped, sums.balances


@pytest.mark.parametrize("wrong", ["9" * 16, "9" * 5000, "-1", "1.5", "\u0663", "x"], ids=ascii)
@pytest.mark.parametrize("field", ["number", "until_ms"])
def test_a_number_that_is_none_or_beyond_all_measure_is_refused(service: Service, field: str, wrong: str) -> None:
    before = state(service)
    assert act(service, "/quarantine/actions", do="drop-all", **{field: wrong})[0] == 400
    assert state(service) == before


@pytest.mark.parametrize("failure_id", NO_ENTRY, ids=ascii)
@pytest.mark.parametrize("step", ["confirm", "actions"])
def test_what_is_no_entry_cannot_be_ticked(service: Service, step: str, failure_id: str) -> None:
    before = state(service)
    for failure_list in ("/quarantine", "/dead-letters/crm"):
        assert act(service, f"{failure_list}/{step}", do="drop-selected", id=failure_id)[0] == 400
    assert state(service) == before


@pytest.mark.parametrize(
    "path", ["/quarantine/bytes", "/quarantine/bytes/body", "/dead-letters/crm/bytes", "/dead-letters/crm/bytes/event"]
)
def test_what_is_no_entry_is_not_there_and_no_reason_to_say_that_redis_is_unavailable(
    service: Service, path: str
) -> None:
    with client_of(service) as client:
        assert client.get(path).status_code == 404


def test_while_redis_is_full_it_is_said_that_nothing_was_done_and_what_makes_room(service: Service) -> None:
    with service.redis.client() as client:
        before, most = state(service), client.config_get("maxmemory")["maxmemory"]
        client.config_set("maxmemory", client.info("memory")["used_memory"] // 2)
        try:
            status, text = act(service, "/quarantine/actions", do="drop-all")
        finally:
            client.config_set("maxmemory", most)
    assert status == 503
    assert "Redis is full, nothing was changed" in text
    assert "callbacks quarantine drop" in text
    assert state(service) == before
