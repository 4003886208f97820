"""The durability gate: whether Redis keeps what it acknowledges, as CALLBACKS_DURABILITY asks.

It checks Redis at the start and every few seconds, more often while a check fails. While it is closed nothing is
committed to Redis, even if the spool takes every callback. Each change is one line of the log.
"""

import asyncio
import contextlib
from typing import Any, Final, Protocol

import redis
import redis.asyncio

from ingest import log
from shared import durability, durability_findings
from shared.durability import Barrier
from shared.durability_findings import Finding
from shared.setting_values import Durability

CHECK_SECONDS: Final = 3.0
# While a check fails, so that Redis is used again soon after it has recovered.
RECHECK_SECONDS: Final = 0.5
# A Redis that has just started has usually little to rewrite; a check does not wait longer for it.
_REWRITE_SECONDS: Final = 1.0
_REWRITE_POLL_SECONDS: Final = 0.03


class CommitGate(Protocol):
    """The part of a gate that the spool needs."""

    @property
    def blocked_reason(self) -> str | None:
        """Why nothing may be committed to Redis now, or None."""


class DurabilityGate:
    """Checks Redis again and again while `run` runs. It is closed until the first check."""

    def __init__(self, client: "redis.asyncio.Redis", level: Durability) -> None:
        self._client = client
        self._level: Durability = level
        self._findings: tuple[Finding, ...] = (durability_findings.unreachable("not checked yet"),)
        self._blocked_reason: str | None = _failing_checks(self._findings)
        self._barrier = Barrier()
        self._can_rewrite = True
        self._first_check = asyncio.Event()
        self._check_now = asyncio.Event()

    @property
    def level(self) -> Durability:
        """The durability that Redis must have."""
        return self._level

    @property
    def findings(self) -> tuple[Finding, ...]:
        """The results of the last check."""
        return self._findings

    @property
    def blocked_reason(self) -> str | None:
        """Why nothing may be committed to Redis now, or None."""
        return self._blocked_reason

    @property
    def barrier(self) -> Barrier:
        """What a commit must wait for, by the last check that reached Redis."""
        return self._barrier

    def report_unreachable(self, why: str) -> None:
        """Close the gate, as Redis did not answer a commit. Redis is checked again at once."""
        self._set_findings((durability_findings.unreachable(why),))
        self._check_now.set()

    async def check(self) -> None:
        """Check Redis now."""
        self._set_findings(await self._query_findings())

    async def wait_for_first_check(self, timeout_seconds: float) -> None:
        """Return after the first check, or after `timeout_seconds`."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_seconds):
                await self._first_check.wait()

    async def run(self) -> None:
        """Check Redis again and again, until cancelled."""
        try:
            while True:
                await self.check()
                self._first_check.set()
                self._check_now.clear()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(CHECK_SECONDS if self._blocked_reason is None else RECHECK_SECONDS):
                        await self._check_now.wait()
        finally:
            # Without checks nothing is known to hold.
            self._findings = (durability_findings.unreachable("no longer checked"),)
            self._blocked_reason = _failing_checks(self._findings)

    async def close(self) -> None:
        """Close the connection."""
        await self._client.aclose()

    async def _query_findings(self) -> tuple[Finding, ...]:
        try:
            try:
                replies = await self._query()
            except redis.ConnectionError:
                replies = await self._query()  # an idle connection that broke says nothing about the server
            findings = durability.evaluate(self._level, replies, can_rewrite=self._can_rewrite)
            if durability_findings.needs_rewrite(findings):
                await self._rewrite()
                replies = await self._query()
                findings = durability.evaluate(self._level, replies, can_rewrite=self._can_rewrite)
            if durability_findings.is_replica(findings):
                await self._client.connection_pool.disconnect()  # the address may lead to the new primary by now
            self._barrier = durability.read_barrier(self._level, replies)
        except (redis.RedisError, OSError) as exc:
            return (durability_findings.unreachable(type(exc).__name__),)
        except Exception as exc:  # noqa: BLE001 # if the checks ended, nothing would ever be committed to Redis again
            log.unexpected_error("durability", exc)
            return (durability_findings.unreachable(type(exc).__name__),)
        return findings

    async def _query(self) -> list[Any]:
        pipe = self._client.pipeline(transaction=False)
        durability.query(pipe)
        return await pipe.execute(raise_on_error=False)

    async def _rewrite(self) -> None:
        """Ask Redis to rewrite its append-only file, and wait for a moment until it has."""
        try:
            await self._client.bgrewriteaof()
        except redis.ResponseError as exc:
            # Forbidden or unknown here, so it will not do so later either. Another process may have asked for it too.
            self._can_rewrite = "in progress" in str(exc)
        deadline = asyncio.get_running_loop().time() + _REWRITE_SECONDS
        while self._can_rewrite and asyncio.get_running_loop().time() < deadline:
            await asyncio.sleep(_REWRITE_POLL_SECONDS)
            info = await self._client.info("persistence")
            if not info["aof_rewrite_in_progress"] and not info["aof_rewrite_scheduled"]:
                return

    def _set_findings(self, findings: tuple[Finding, ...]) -> None:
        reason_before, is_first = self._blocked_reason, not self._first_check.is_set()
        unverified_before = {finding.name for finding in self._findings if finding.ok and finding.remedy}
        self._findings, self._blocked_reason = findings, _failing_checks(findings)
        if self._blocked_reason != reason_before or is_first:
            if self._blocked_reason is None:
                log.logger.info("durability", state="held", durability=self._level)
            else:
                log.logger.error("durability", state="lost", durability=self._level, failing=self._blocked_reason)
        for finding in findings:
            if finding.ok and finding.remedy and finding.name not in unverified_before:
                log.logger.warning("durability_unverified", check=str(finding))


def _failing_checks(findings: tuple[Finding, ...]) -> str | None:
    return "; ".join(str(finding) for finding in findings if not finding.ok) or None
