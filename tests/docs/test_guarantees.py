"""docs/guarantees.md is so: its tables have the settings and the statuses of the code."""

import re
from typing import get_args

from shared import refusals, settings
from shared.setting_values import Durability
from tests.docs import pages
from tests.hosts import faults, results

PAGE = "docs/guarantees.md"


def test_its_table_has_each_level_of_durability() -> None:
    rows = pages.rows(PAGE, "`CALLBACKS_DURABILITY`", "a 200 survives", "it does not survive")

    assert [re.findall(r"`(\w+)`", cells[0])[0] for cells in rows] == list(get_args(Durability))
    assert "(default)" in rows[0][0]
    assert settings.load({}).durability == "fsync"


def test_its_table_has_each_status_that_the_web_process_answers() -> None:
    rows = pages.rows(PAGE, "case", "answer")
    statuses = {int(status) for cells in rows for status in re.findall(r"\b[2-5]\d\d\b", cells[1])}
    answered = {reason.status for reason in refusals.REASONS.values()}

    assert statuses == answered | {200}


def test_its_table_of_faults_is_of_rounds_in_which_nothing_was_lost_and_every_callback_was_accepted() -> None:
    found = results.read()

    assert {one.fault for one in found} == {fault.name for fault in faults.FAULTS}
    for fault in faults.FAULTS:
        rounds = [one for one in found if one.fault == fault.name]
        assert len(rounds) >= 3, fault.name
        assert all(one.balances and not one.lost and not one.discarded and not one.restarts for one in rounds)
