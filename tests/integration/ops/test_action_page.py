"""The page of an action leads back to where the action was, or to all actions if that has no page of its own."""

import pytest

from shared import connections
from tests.integration.ops.ops_client import opened
from tests.redis_server import RedisServer
from workers.admin.action_log import Action, ActionLog

PASSWORD = "correct horse battery"


@pytest.mark.parametrize(
    ("where", "path"),
    [
        ("people", "/actions"),
        ("sealed", "/actions"),
        ("dead:crm", "/dead-letters/crm"),
        ("handler:crm", "/handlers/crm"),
    ],
)
def test_an_action_leads_back_to_a_page_that_is_there(where: str, path: str, quick_redis: RedisServer) -> None:
    with connections.connect(quick_redis.url) as client:
        action_id = ActionLog(client).start(Action(who="anna", by="command", what="drop", where=where))

    with opened(quick_redis.url, CALLBACKS_OPS_PASSWORD=PASSWORD) as ops:
        page = ops.client()
        page.sign_in(PASSWORD)
        assert f'<a href="{path}">Back to' in page.get(f"/actions/{action_id}").text
