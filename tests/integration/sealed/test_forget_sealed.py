"""`callbacks forget` finds what is sealed, and names what it cannot open."""

import math
from typing import Any

import pytest

from shared import sealed_data
from shared.number_search import NumberSearch
from tests.integration.harness import open_harness, record, status
from tests.integration.sealed.conftest import NEW, OLD
from tests.integration.sealed.sealed_handlers import NUMBER, dies, first, seen
from workers.admin.action_log import Action
from workers.admin.bulk_action import BulkActions, RemainingRetries
from workers.admin.retry_rows import RetryCursor, RetryFilter
from workers.personal_data.action_work import ActionWork
from workers.personal_data.erasure import erase_until_clean
from workers.personal_data.failures import Failures
from workers.personal_data.jobs import WaitingJobs


def test_forget_erases_what_is_sealed_and_names_what_it_cannot_open(url: str) -> None:
    search = NumberSearch([NUMBER])
    with open_harness(url, first, dies) as harness:
        harness.accept(status(record("1", to=NUMBER), record("2")))
        harness.expand()
        harness.deliver(dies)
        harness.accept(status(record("3", to=NUMBER), record("4")))
        sealed_data.use([NEW])
        stores: tuple[Any, ...] = (WaitingJobs(harness.connection, search), Failures(harness.connection, search))
        unopened = [store.erase(dry_run=False) for store in stores]
        assert [result.erased for result in unopened] == [0, 0]
        # It does not wait for a key.
        assert erase_until_clean(stores, dry_run=False, wait_seconds=math.inf)[0].unreadable == 2
        assert all(result.unreadable and "CALLBACKS_SEAL_KEYS_FILE" in result.why for result in unopened)

        sealed_data.use([NEW, OLD])
        assert [len([*store.export()]) for store in stores] == [2, 1]
        ended = [store.erase(dry_run=False) for store in stores]
        assert [(result.erased, result.left) for result in ended] == [(2, 0), (1, 0)]
        harness.expand()
        harness.deliver(first)
        assert len(seen) == 2
        assert harness.audit().balances


@pytest.mark.parametrize("is_sealed", [True, False])
def test_forget_deletes_what_is_left_of_an_action_that_searches_for_the_number(url: str, is_sealed: bool) -> None:
    sealed_data.use([OLD] if is_sealed else [])
    with open_harness(url, dies) as harness:
        actions = BulkActions(harness.connection)
        logged = Action(who="anna", by="page", what="retry", where="retries", chosen="some")
        ids = [
            actions.start(logged, RemainingRetries(retry_filter=RetryFilter(error=text), cursor=RetryCursor()))
            for text in (f"nobody has +{NUMBER}", "time-out")
        ]
        store = ActionWork(harness.connection, NumberSearch([NUMBER]))
        found = [store.erase(dry_run=True).found, len([*store.export()]), store.erase(dry_run=False).erased]
        states = [actions.get_state(action_id) for action_id in ids]

        assert found == [1, 1, 1]
        assert [state is not None and state.work is not None for state in states] == [False, True]
        sealed_data.use([NEW])
        unopened = store.erase(dry_run=False)
        assert (unopened.erased, unopened.unreadable) == (0, is_sealed)
        sealed_data.use([OLD])
        state = actions.get_state(ids[1])
        assert state is not None
        assert state.work is not None  # a process that has the key runs it
