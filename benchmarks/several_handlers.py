"""As many handlers that do nothing as BENCHMARK_HANDLERS says, or one: nothing0, nothing1, …

They take one event at a time, or, with BENCHMARK_BATCH=yes, whole batches.
"""

import os
from collections.abc import Callable
from typing import Any, Final

from callbacks import ReportEvent, handler

_BATCH: Final = os.environ.get("BENCHMARK_BATCH") == "yes"


def _nothing(number: int) -> Callable[[Any], None]:
    @handler(ReportEvent, name=f"nothing{number}", batch=_BATCH)
    def nothing(_events: Any) -> None:
        """Do nothing."""

    return nothing


globals().update(
    {f"nothing{number}": _nothing(number) for number in range(int(os.environ.get("BENCHMARK_HANDLERS", "1")))}
)
