"""`callbacks completion` prints click's script; the names of commands are completed without importing any."""

import pytest
from click.testing import CliRunner

from callbacks.cli.main import main


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_of_each_shell_asks_callbacks_for_completions(shell: str) -> None:
    ended = CliRunner().invoke(main, ["completion", shell])

    assert ended.exit_code == 0
    assert f"_CALLBACKS_COMPLETE={shell}_complete" in ended.output


@pytest.mark.parametrize(
    ("words", "current", "found"),
    [
        ("callbacks de", "1", {"demo", "dev", "dead"}),
        ("callbacks ne", "1", {"new"}),
        ("callbacks dead re", "2", {"replay"}),
    ],
)
def test_commands_and_subcommands_are_completed(words: str, current: str, found: set[str]) -> None:
    environment = {"_CALLBACKS_COMPLETE": "bash_complete", "COMP_WORDS": words, "COMP_CWORD": current}

    ended = CliRunner().invoke(main, prog_name="callbacks", env=environment)

    assert {line.removeprefix("plain,") for line in ended.output.splitlines()} == found
