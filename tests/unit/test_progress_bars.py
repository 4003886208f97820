"""Progress in a log: where bars cannot be drawn, a line follows every three seconds."""

import io
from types import SimpleNamespace

import pytest
from rich.console import Console

from callbacks.cli import progress_bars
from callbacks.cli.progress_bars import ProgressBars


@pytest.mark.parametrize(("terminal", "lines"), [(False, ["sent: 1,200 of 9,000", "sent: 1,400 of 9,000"]), (True, [])])
def test_a_line_follows_every_three_seconds_but_on_a_terminal(
    monkeypatch: pytest.MonkeyPatch, terminal: bool, lines: list[str]
) -> None:
    seconds = iter((0.0, 1.0, 3.0, 5.9, 6.0))
    monkeypatch.setattr(progress_bars, "time", SimpleNamespace(monotonic=lambda: next(seconds)))
    output = io.StringIO()
    bars = ProgressBars(Console(file=output, force_terminal=terminal, width=80))
    task = bars.add_task("sent", total=9000)
    for sent in (1100, 1200, 1300, 1400):
        bars.update(task, completed=sent)

    assert output.getvalue().splitlines() == lines
