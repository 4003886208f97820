"""Handlers of users take part in `forget`: by a function that the command calls, and that conformance checks."""

from collections.abc import Callable, Collection
from typing import Any

import pytest
from _pytest.outcomes import Failed

from callbacks import ReportEvent, handler
from callbacks.testing import Conformance
from shared.errors import ConfigurationError
from shared.number_search import NumberSearch
from tests.integration.harness import declaration_of
from tests.integration.personal_data import forgetting_handlers as own
from workers.personal_data.handler_data import HandlerData
from workers.personal_data.report import StoreResult

NUMBER, OTHER = "35699777123", "35699777124"


class Checks(Conformance):
    __test__ = False

    def effects(self) -> Collection[object]:
        return [*own.stored.items()]


@pytest.fixture(autouse=True)
def _empty() -> None:
    own.stored.clear()


def erase(function: Callable[..., Any], *, dry_run: bool = False) -> StoreResult:
    declared = declaration_of(function)
    assert declared.forget is not None
    return HandlerData("own", declared, declared.forget, NumberSearch([NUMBER])).erase(dry_run=dry_run)


@pytest.mark.parametrize("function", [own.remembers, own.remembers_later])
def test_its_function_is_called_while_its_lifespan_is_open(function: Callable[..., Any]) -> None:
    own.stored |= {"1": NUMBER, "2": OTHER, "3": NUMBER}
    name = f"handler:{declaration_of(function).name}"

    assert erase(function, dry_run=True).found == 0
    assert erase(function) == StoreResult(store=name, found=2, erased=2)
    assert own.stored == {"2": OTHER}
    assert not own.is_open


def test_what_it_raises_is_named_without_its_text() -> None:
    result = erase(own.fails)

    assert (result.is_complete, result.why) == (False, "its forget function raised LookupError")


@pytest.mark.parametrize(
    ("function", "problem"),
    [
        (own.remembers, ""),
        (own.remembers_later, ""),
        (own.erases_all, "some of another person"),
        (own.counts_nothing, "forget returned 0, and erased"),
    ],
)
def test_conformance_finds_a_function_that_erases_too_much_or_miscounts(
    function: Callable[..., Any], problem: str
) -> None:
    if not problem:
        Checks().test_forget_erases_one_person_alone(declaration_of(function))
        return
    with pytest.raises(Failed, match=problem):
        Checks().test_forget_erases_one_person_alone(declaration_of(function))


@pytest.mark.parametrize(("forget", "problem"), [("erase", "must be a function"), (lambda: 0, "exactly one argument")])
def test_a_wrong_forget_stops_the_declaration(forget: Any, problem: str) -> None:
    with pytest.raises(ConfigurationError, match=problem):

        @handler(ReportEvent, forget=forget)
        def handles(event: ReportEvent) -> None:
            """Do nothing."""
