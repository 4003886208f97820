"""CALLBACKS_CELLS: which cells a value names, what is wrong with one, and that no secret is shown."""

import pytest

from shared import settings
from shared.cells import parse_cells
from shared.errors import ConfigurationError
from shared.setting_groups.setting import Process

SECRET = "hunter2hunter2"


@pytest.mark.parametrize(
    ("value", "cells"),
    [
        ("", []),
        ("a=redis://h/0", [("a", "redis://h/0")]),
        ("a=redis://h:1/0,b=redis://h:2/0", [("a", "redis://h:1/0"), ("b", "redis://h:2/0")]),
        ("eu-1=redis://h/0 ,\n us.2=unix:///run/r.sock?db=3", [("eu-1", "redis://h/0"), ("us.2", "unix:///run/r.sock?db=3")]),
        ("a=redis://h/0,b=redis://h/1", [("a", "redis://h/0"), ("b", "redis://h/1")]),
        ("a=redis+sentinel://s1,s2:7/main/0,b=rediss://u:p%2Cw%3D@h/0?ssl_check_hostname=false",
         [("a", "redis+sentinel://s1,s2:7/main/0"), ("b", "rediss://u:p%2Cw%3D@h/0?ssl_check_hostname=false")]),
    ],
)  # fmt: skip
def test_cells_are_named_urls_separated_by_commas(value: str, cells: list[tuple[str, str]]) -> None:
    assert [(cell.name, cell.redis_url) for cell in parse_cells(value)] == cells


@pytest.mark.parametrize(
    ("value", "named"),
    [
        ("redis://h/0", "entry 1 must be name=redis-url"),
        (f"redis://:{SECRET}@h/0?db=1", "entry 1"),
        ("a=redis://h/0,b", "'a'"),
        ("a=redis://h/0,b=localhost:6379", "the URL of cell 'b' must be a URL"),
        (f"a=redis://h/0,b=http://:{SECRET}@h", "the URL of cell 'b'"),
        (f"a=redis://:pw,{SECRET}=x@h/0,b=redis://g/0", "cell 'a'"),
        (f"a=redis://h/0,{SECRET}=x@h/0", "entry 2"),
        ("a=,b=redis://g/0", "cell 'a'"),
        ("=redis://h/0", "entry 1"),
        ("a = redis://h/0", "entry 1"),
        ("ä=redis://h/0", "entry 1"),
        ("a=redis://h/0,", "'a'"),
        ("a=redis://h/0?db=1&db=2", "the URL of cell 'a' has options twice"),
        ("a=redis://h/0,a=redis://g/0", "two cells have the name 'a'"),
        ("a=redis://h/0,b=valkey://u:p@h:6379", "cells 'a' and 'b' have the same Redis"),
        ("a=unix:///r?db=1,b=unix:///r?db=1&username=u", "the same Redis"),
        ("a=redis+sentinel://s,t/main/0,b=redis+sentinel://t,s/main/0", "the same Redis"),
    ],
)
def test_a_wrong_value_is_refused_with_the_cells_name_and_without_secrets(value: str, named: str) -> None:
    with pytest.raises(ConfigurationError) as error:
        settings.load({"CALLBACKS_CELLS": value}, process="cells")

    (problem,) = error.value.problems
    assert problem.startswith("CALLBACKS_CELLS: ")
    assert named in problem
    assert SECRET not in problem


def test_no_url_of_a_cell_is_in_a_repr() -> None:
    read = settings.load({"CALLBACKS_CELLS": f"a=redis://u:{SECRET}@h/0?password={SECRET}"}, process="ops")

    assert SECRET not in repr(read)
    assert SECRET not in repr(read.cells)
    assert read.cells[0].redacted_url == "redis://h/0"


@pytest.mark.parametrize("process", ["ops", "cells"])
def test_the_first_cell_is_the_redis_of_a_process_that_has_no_other(process: Process) -> None:
    environ = {"CALLBACKS_CELLS": "a=redis://h/0,b=redis://g/0"}

    assert settings.load(environ, process=process, needs=("REDIS_URL",)).redis_url == "redis://h/0"
    both = environ | {"REDIS_URL": "redis://g/0"}
    assert settings.load(both, process=process, needs=("REDIS_URL",)).redis_url == "redis://g/0"


@pytest.mark.parametrize("process", ["web", "expand", "deliver", "command"])
def test_all_others_work_on_one_redis_and_need_its_own_url(process: Process) -> None:
    for value in ("a=redis://h/0,b=redis://g/0", "wrong"):
        with pytest.raises(ConfigurationError) as error:
            settings.load({"CALLBACKS_CELLS": value}, process=process, needs=("REDIS_URL",))
        (problem,) = error.value.problems
        assert problem.startswith("REDIS_URL is not set")
