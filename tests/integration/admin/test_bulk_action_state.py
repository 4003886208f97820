"""What is known of a bulk action while it ends."""

import pytest

from shared import connections, keys
from tests.redis_server import RedisServer
from workers.admin.action_log import Action, ActionLog, ActionProgress, LoggedAction
from workers.admin.bulk_action import BulkActions, RemainingWork


def test_an_action_that_ends_while_its_state_is_read_does_not_look_interrupted(
    redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    action = Action(who="anna", by="page", what="drop", where="quarantine", number=1)
    with connections.connect(redis_server.url) as client:
        actions = BulkActions(client)
        action_id = actions.start(action, RemainingWork(task="drop", handler=None, ids=("0badc0de",)))
        client.set(keys.action_runner(action_id), "another process")
        find = ActionLog.find

        def find_as_it_ends(log: ActionLog, wanted: str) -> LoggedAction | None:
            found = find(log, wanted)
            log.end(wanted, action, ActionProgress(done=1, failed=0), state="done")
            client.delete(keys.action_runner(wanted))
            return found

        monkeypatch.setattr(ActionLog, "find", find_as_it_ends)
        state = actions.get_state(action_id)

    assert state is not None
    assert (state.action.state, state.is_running) == ("running", True)
