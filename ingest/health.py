"""GET /livez and /readyz: whether the process runs, and whether callbacks are accepted as they should be.

/readyz names every check: those of the durability gate, those of the spool, and each loop that keeps failing.
"""

from typing import Any, Final

from starlette.types import Receive, Scope

from ingest.answers import Answer, json_answer
from ingest.durability_gate import DurabilityGate
from ingest.spool.report import SpoolReport
from shared.background import Background

_NO_STORE: Final = ((b"cache-control", b"no-store"),)
_ALIVE: Final = json_answer(200, {"status": "alive"}, headers=_NO_STORE)


class Health:
    """Answers /livez and /readyz."""

    def __init__(self, gate: DurabilityGate, report: SpoolReport, background: Background) -> None:
        self._gate = gate
        self._report = report
        self._background = background

    async def livez(self, _scope: Scope, _receive: Receive) -> Answer:
        """Return 200: the process runs, whatever Redis does."""
        return _ALIVE

    async def readyz(self, _scope: Scope, _receive: Receive) -> Answer:
        """Return 200 or 503, with every check, and with where a callback that came now would be stored."""
        checks: dict[str, dict[str, Any]] = {
            finding.name: {"ok": finding.ok, "detail": finding.detail}
            | ({"remedy": finding.remedy} if finding.remedy else {})
            for finding in self._gate.findings
        }
        checks |= self._report.checks()
        checks |= {
            name: {"ok": False, "detail": f"keeps failing: {error}", "remedy": "see action=loop_failed in the log"}
            for name, error in self._background.failing().items()
        }
        is_ready = all(check["ok"] for check in checks.values())
        document = {
            "status": "ready" if is_ready else "unavailable",
            "durability": self._gate.level,
            "destination": self._report.destination(),
            "checks": checks,
        }
        return json_answer(200 if is_ready else 503, document, headers=_NO_STORE)
