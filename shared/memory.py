"""How full Redis is, and up to which share of its maxmemory each kind of write may make it fuller.

    up to 85 %   whatever a failing handler leaves behind: retries and dead letters (`workers/runtime/headroom.py`)
    up to 90 %   callbacks that come in (`shared/durability.py`)
    up to 95 %   fan-out, which multiplies a callback by its handlers (`workers/runtime/headroom.py`)
    always       what frees memory, or needs next to none: claims, settlements, leases, workers that start and end
                 (`workers/runtime/allow_oom.lua`, `workers/runtime/oom_fallback.py`)

So one handler's failures close the way of no other handler's events, and what would make room is never refused.
"""

from collections.abc import Mapping
from typing import Any, Final

from msgspec import Struct

FAILURES_SHARE: Final = 0.85
CALLBACKS_SHARE: Final = 0.90
FAN_OUT_SHARE: Final = 0.95


class Memory(Struct, frozen=True):
    """What Redis uses, and its maxmemory: 0 is no limit."""

    used_bytes: int
    max_bytes: int

    @property
    def share(self) -> float:
        """How much of it is used, from 0 to 1 and somewhat above; 0 without a limit."""
        return self.used_bytes / self.max_bytes if self.max_bytes else 0.0


def parse_info(info: Mapping[str, Any]) -> Memory:
    """Return what the fields of INFO say."""
    return Memory(int(info.get("used_memory", 0)), int(info.get("maxmemory", 0)))
