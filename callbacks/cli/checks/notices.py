"""Whether the targets of notices can be read."""

from collections.abc import Iterator

from callbacks.cli.checks.result import CheckResult
from callbacks.ops.notices.targets import read_targets
from shared.errors import ConfigurationError
from shared.settings import Settings


def check_notices(loaded: Settings) -> Iterator[CheckResult]:
    """Yield where notices go, or why `callbacks ops` cannot send them."""
    try:
        targets = read_targets(loaded)
    except ConfigurationError as exc:
        for problem in exc.problems:
            yield CheckResult("wrong", problem, "Correct it; until then `callbacks ops` does not start.")
        return
    if targets:
        names = ", ".join(target.name for target in targets)
        yield CheckResult("ok", f"notices go to {names}; `callbacks notify --test` tries them")
