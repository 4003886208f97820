"""Bars for what takes a while; where they cannot be drawn, as in a log, a line every few seconds."""

import time
from typing import Any, Final

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

_LINE_EVERY_SECONDS: Final = 3.0


class ProgressBars(Progress):
    """Bars with numbers; a context manager that draws them a last time at its end."""

    def __init__(self, console: Console) -> None:
        super().__init__(
            TextColumn("{task.description:>22}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=console,
        )
        self._printed = time.monotonic()

    def update(self, task_id: TaskID, **fields: Any) -> None:
        """Set fields of a task, such as `completed`."""
        super().update(task_id, **fields)
        now = time.monotonic()
        if self.console.is_terminal or now - self._printed < _LINE_EVERY_SECONDS:
            return
        self._printed = now
        task = next(task for task in self.tasks if task.id == task_id)
        self.console.print(f"{task.description}: {task.completed:,.0f} of {task.total or 0:,.0f}")
