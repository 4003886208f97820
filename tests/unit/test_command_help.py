"""The lists of commands describe each in a whole sentence: click ends what it truncates with three dots."""

import click
import pytest
from click.testing import CliRunner

from callbacks.cli.main import main

GROUPS = ("worker", "handlers", "dead", "quarantine", "retries", "optouts")


def test_these_are_the_groups_of_commands() -> None:
    context = click.Context(main)
    names = main.list_commands(context)

    assert {name for name in names if isinstance(main.get_command(context, name), click.Group)} == set(GROUPS)


@pytest.mark.parametrize("group", ["", *GROUPS])
def test_no_description_of_a_command_is_truncated(group: str) -> None:
    result = CliRunner().invoke(main, [*group.split(), "--help"])

    assert result.exit_code == 0
    _, _, listed = result.output.partition("Commands:")
    assert listed.strip()
    assert "..." not in listed


def test_the_audit_says_what_it_counts_and_when_it_balances() -> None:
    text = " ".join(CliRunner().invoke(main, ["audit", "--help"]).output.split())

    assert "It counts records" in text
    assert (
        "each record received is new, a duplicate, quarantined, dropped, forgotten, or waiting to be expanded" in text
    )
    assert "each event queued for a handler is delivered, a dead letter, dropped, forgotten, or waiting" in text
