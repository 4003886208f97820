"""As many handlers that do nothing as BENCHMARK_HANDLERS says: nothing0, nothing1, …"""

import os
from collections.abc import Callable

from callbacks import ReportEvent, handler


def _nothing(number: int) -> Callable[[ReportEvent], None]:
    @handler(ReportEvent, name=f"nothing{number}")
    def nothing(_event: ReportEvent) -> None:
        """Do nothing."""

    return nothing


globals().update({f"nothing{number}": _nothing(number) for number in range(int(os.environ["BENCHMARK_HANDLERS"]))})
