"""The progress of `callbacks simulate`: a bar in a terminal, and everywhere a line for each new reason of a failure."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as ProgressBar
from rich.text import Text

from callbacks.simulator.gateway import OnProgress
from callbacks.simulator.receiver_urls import ReceiverUrls
from callbacks.simulator.summary import RunProgress

# Some receivers have a new reason for each failure.
_MAX_REASONS = 10


@contextmanager
def show_progress(urls: ReceiverUrls, *, retry_seconds: float, bar: bool) -> Iterator[OnProgress]:
    """Yield a function that shows progress on standard error, with a bar if that is a terminal."""
    console = Console(stderr=True)
    printed: set[str] = set()

    def show_reasons(progress: RunProgress) -> None:
        for reason in progress.failed_attempts.keys() - printed:
            if len(printed) < _MAX_REASONS:
                printed.add(reason)
                again = f"; sent again after {retry_seconds:g} s" if progress.acknowledged and progress.waiting else ""
                console.print(Text(f"{urls.redacted_url}: {reason}{again}"), soft_wrap=True)

    if not (bar and console.is_terminal):
        yield show_reasons
        return
    with _bar(console) as update:

        def show(progress: RunProgress) -> None:
            show_reasons(progress)
            update(progress)

        yield show


@contextmanager
def _bar(console: Console) -> Iterator[Callable[[RunProgress], None]]:
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with ProgressBar(*columns, console=console, transient=True) as bar:
        task = bar.add_task("callbacks", total=None)

        def update(progress: RunProgress) -> None:
            reason = f" ({next(iter(progress.failed_attempts))})" if progress.waiting else ""
            bar.update(
                task,
                total=progress.planned,
                completed=progress.acknowledged + progress.discarded,
                description=f"callbacks, {progress.waiting:,} to be sent again{reason}",
            )

        yield update
