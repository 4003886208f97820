"""Whether Redis holds what CALLBACKS_DURABILITY asks: watched all the time, and told with all else in /readyz.

The gate looks at the start and every few seconds, more often while something is wrong. Below the level nothing is
committed to Redis and /readyz says which check fails, even while the spool takes every callback; a line is logged
when that changes, never for each request.
"""

import asyncio
import contextlib
from typing import Any, Final

import redis
import redis.asyncio
from starlette.types import Receive, Scope

from ingest import log
from ingest.answers import Answer, answer
from ingest.spool.report import SpoolReport
from shared import durability
from shared.background import Background
from shared.durability import Barrier, Finding
from shared.settings import Durability

CHECK_SECONDS: Final = 3.0
# While it does not hold, so that a Redis that is back is used again at once.
RECHECK_SECONDS: Final = 0.5

_NO_STORE: Final = ((b"cache-control", b"no-store"),)
_ALIVE: Final = answer(200, {"status": "alive"}, headers=_NO_STORE)


class DurabilityGate:
    """Looks at Redis again and again while `run` runs. Until the first look nothing is believed to hold."""

    def __init__(self, client: "redis.asyncio.Redis", level: Durability) -> None:
        self._client = client
        self._level: Durability = level
        self._findings: tuple[Finding, ...] = (durability.unreachable("not looked at yet"),)
        self._blocked_reason: str | None = _failing(self._findings)
        self._barrier = Barrier()
        self._fault = ""
        self._first_check = asyncio.Event()
        self._hurry = asyncio.Event()

    @property
    def level(self) -> Durability:
        """What it looks for."""
        return self._level

    @property
    def findings(self) -> tuple[Finding, ...]:
        """What was seen last."""
        return self._findings

    @property
    def blocked_reason(self) -> str | None:
        """Why nothing may be committed now, or None."""
        return self._blocked_reason

    @property
    def barrier(self) -> Barrier:
        """What a commit has to wait for, as the Redis stands that was seen last."""
        return self._barrier

    def report_unreachable(self, why: str) -> None:
        """Take note that Redis did not answer a commit; it is looked at again at once."""
        self._conclude((durability.unreachable(why),))
        self._hurry.set()

    async def check(self) -> None:
        """Look now."""
        self._conclude(await self._query_findings())

    async def wait_for_first_check(self, timeout_seconds: float) -> None:
        """Wait for the first look, or for `timeout_seconds`."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_seconds):
                await self._first_check.wait()

    async def run(self) -> None:
        """Look again and again, until cancelled."""
        try:
            while True:
                await self.check()
                self._first_check.set()
                self._hurry.clear()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(CHECK_SECONDS if self._blocked_reason is None else RECHECK_SECONDS):
                        await self._hurry.wait()
        finally:
            # What nobody watches does not hold.
            self._findings = (durability.unreachable("no longer watched"),)
            self._blocked_reason = _failing(self._findings)

    async def close(self) -> None:
        """Close the connection."""
        await self._client.aclose()

    async def _query_findings(self) -> tuple[Finding, ...]:
        try:
            try:
                replies = await self._ask()
            except redis.ConnectionError:
                replies = await self._ask()  # a connection that broke while nobody used it says nothing of the server
            findings = durability.evaluate(self._level, replies)
            if durability.is_replica(findings):
                await self._client.connection_pool.disconnect()  # the address may lead to the new primary by now
            barrier = durability.read_barrier(self._level, replies)
        except (redis.RedisError, OSError) as exc:
            return (durability.unreachable(type(exc).__name__),)
        except Exception as exc:  # noqa: BLE001 # without this watch nothing would ever be committed to Redis again
            why = type(exc).__name__
            if self._fault != why:
                log.unexpected_error("durability", exc)
            self._fault = why
            return (durability.unreachable(why),)
        self._fault = ""
        self._barrier = barrier
        return findings

    async def _ask(self) -> list[Any]:
        pipe = self._client.pipeline(transaction=False)
        durability.query(pipe)
        return await pipe.execute(raise_on_error=False)

    def _conclude(self, findings: tuple[Finding, ...]) -> None:
        before, first = self._blocked_reason, not self._first_check.is_set()
        unseen_before = {finding.name for finding in self._findings if finding.ok and finding.remedy}
        self._findings, self._blocked_reason = findings, _failing(findings)
        if self._blocked_reason != before or first:
            if self._blocked_reason is None:
                log.logger.info("action=durability state=held level=%s", self._level)
            else:
                log.logger.error("action=durability state=lost level=%s failing=%r", self._level, self._blocked_reason)
        for finding in findings:
            if finding.ok and finding.remedy and finding.name not in unseen_before:
                log.logger.warning("action=durability_unverified check=%r", str(finding))


class Health:
    """Answers /livez and /readyz from what `gate` has seen, `report` has noted, and how `background` goes."""

    def __init__(self, gate: DurabilityGate, report: SpoolReport, background: Background) -> None:
        self._gate = gate
        self._background = background
        self._report = report

    async def livez(self, _scope: Scope, _receive: Receive) -> Answer:
        """Answer that the process runs, whatever Redis does."""
        return _ALIVE

    async def readyz(self, _scope: Scope, _receive: Receive) -> Answer:
        """Answer whether callbacks are kept as they should be now, with every check, and where they are kept."""
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
        ready = all(check["ok"] for check in checks.values())
        document = {
            "status": "ready" if ready else "unavailable",
            "durability": self._gate.level,
            "destination": self._report.destination(),
            "checks": checks,
        }
        return answer(200 if ready else 503, document, headers=_NO_STORE)


def _failing(findings: tuple[Finding, ...]) -> str | None:
    return "; ".join(str(finding) for finding in findings if not finding.ok) or None
