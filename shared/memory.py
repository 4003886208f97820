"""How full Redis is, and up to which share of its maxmemory each kind of write is allowed.

    up to 85 %   retries and dead letters of a failing handler (`workers/runtime/headroom.py`)
    up to 90 %   new callbacks (`shared/durability_findings.py`)
    up to 95 %   fan-out, which multiplies a callback by its handlers (`workers/runtime/headroom.py`)
    always       what frees memory, or needs almost none: claims, settlements, leases, workers that start and end
                 (`workers/runtime/allow_oom.lua`, `workers/runtime/oom_fallback.py`)

So the failures of one handler stop no events of another, and what would make room is never refused.
"""

from collections.abc import Mapping
from typing import Any, Final

from msgspec import Struct

FAILURES_SHARE: Final = 0.85
CALLBACKS_SHARE: Final = 0.90
FAN_OUT_SHARE: Final = 0.95


class Memory(Struct, frozen=True):
    """How much memory Redis uses, and its maxmemory; 0 is no limit."""

    used_bytes: int
    max_bytes: int

    @property
    def share(self) -> float:
        """The share in use, from 0 to slightly above 1; 0 without a limit."""
        return self.used_bytes / self.max_bytes if self.max_bytes else 0.0


def parse_info(info: Mapping[str, Any]) -> Memory:
    """Return the memory that the fields of INFO name."""
    return Memory(int(info.get("used_memory", 0)), int(info.get("maxmemory", 0)))
