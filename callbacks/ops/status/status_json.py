"""The JSON form of the service's status, the same for `callbacks top --json` and `/api/health`."""

from collections.abc import Sequence
from typing import Any

import msgspec

from callbacks.ops.status.service_status import ServiceStatus
from shared.cells_reader import CellReading
from shared.events import rfc3339


def status_as_json(found: ServiceStatus) -> dict[str, Any]:
    """Return the status with its time in RFC 3339, and what it says as a whole."""
    fields: dict[str, Any] = msgspec.to_builtins(found)
    return fields | {
        "at": rfc3339(found.at),
        "durable": found.durable,
        "gateway_gives_up_in_seconds": found.gateway_gives_up_in_seconds,
    }


def cells_as_json(found: Sequence[CellReading[ServiceStatus]]) -> dict[str, Any]:
    """Return each cell's status, or why it cannot be read, and the names of those that cannot."""
    return {
        "unavailable": [one.cell for one in found if one.value is None],
        "cells": [
            {"cell": one.cell, "redis_url": one.redis_url}
            | ({"error": one.problem} if one.value is None else status_as_json(one.value))
            for one in found
        ],
    }
