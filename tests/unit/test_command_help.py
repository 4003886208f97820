"""The lists of commands say what each is for, whole: what click would cut off ends in three dots."""

import click
import pytest
from click.testing import CliRunner

from callbacks.cli.main import main

GROUPS = ("worker", "handlers", "dead", "quarantine")


def test_these_are_the_commands_that_have_commands() -> None:
    context = click.Context(main)
    names = main.list_commands(context)

    assert {name for name in names if isinstance(main.get_command(context, name), click.Group)} == set(GROUPS)


@pytest.mark.parametrize("group", ["", *GROUPS])
def test_no_command_is_explained_by_half_a_sentence(group: str) -> None:
    told = CliRunner().invoke(main, [*group.split(), "--help"])

    assert told.exit_code == 0
    _, _, listed = told.output.partition("Commands:")
    assert listed.strip()
    assert "..." not in listed


def test_the_audit_says_what_it_counts_and_when_its_sum_comes_out() -> None:
    told = " ".join(CliRunner().invoke(main, ["audit", "--help"]).output.split())

    assert "It counts records" in told
    assert "each record received is new, a duplicate, quarantined, dropped, or waiting to be expanded" in told
    assert "each event queued for a handler is delivered, a dead letter, dropped, or waiting" in told
