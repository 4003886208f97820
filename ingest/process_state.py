"""The state of this web process, as its /metrics and the operators' page show it."""

import math
from typing import Any

from ingest.durability_gate import CommitGate
from ingest.metrics import AnswerMetrics
from ingest.spool.report import SpoolReport
from shared.background import Background


def read_state(report: SpoolReport, gate: CommitGate, background: Background, answers: AnswerMetrics) -> dict[str, Any]:
    """Return the state as JSON can hold it. Any thread may call it."""
    full_in_seconds = report.full_in_seconds()
    return {
        **report.metrics(),
        # JSON has no infinity.
        "full_in_seconds": None if math.isinf(full_in_seconds) else full_in_seconds,
        "destination": report.destination(),
        "durable": gate.blocked_reason is None,
        "failing_loops": len(background.failing()),
        "refused_addresses": answers.refused_addresses(),
    }
