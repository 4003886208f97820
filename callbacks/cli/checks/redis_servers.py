"""Whether Redis can be used, that of each cell too, and whether it keeps what it promises."""

from collections.abc import Iterator, Sequence

import redis

from callbacks.cli.checks.result import CheckResult, State
from shared import connections, durability, durability_findings, failing_loops
from shared.cells import Cell
from shared.cells_reader import CellsReader
from shared.settings import Settings


def check_redis(loaded: Settings) -> Iterator[CheckResult]:
    """Yield whether Redis answers and is as durable as the settings say, and which loops of processes keep failing."""
    if not loaded.redis_url:
        yield CheckResult(
            "wrong",
            "REDIS_URL is not set",
            "Set it to your Redis, for example redis://127.0.0.1:6379/0; `callbacks dev` does not need it.",
        )
        return
    url = connections.redact_url(loaded.redis_url)
    client = connections.connect(loaded.redis_url, timeout_seconds=connections.WEB_TIMEOUT_SECONDS)
    try:
        client.ping()
        with client.pipeline(transaction=False) as pipe:
            durability.query(pipe)
            answers = pipe.execute(raise_on_error=False)
        if loaded.durability == "memory":
            yield CheckResult(
                "advice",
                "CALLBACKS_DURABILITY=memory: a 200 does not survive a crash of Redis",
                "Remove it, so that callbacks are on disk before the gateway gets a 200.",
            )
        if loaded.durability == "managed":
            yield CheckResult(
                "advice",
                "CALLBACKS_DURABILITY=managed: a 200 is as durable as the provider of Redis promises",
                "Use fsync if the append-only file is fsynced before each reply, or WAITAOF waits: see docs/redis.md.",
            )
        for found in durability.evaluate(loaded.durability, answers):
            if found.ok and found.name == "redis":
                yield CheckResult("ok", f"REDIS_URL: {url} answers")
                continue
            if durability_findings.is_for_the_web_process(found):
                continue
            state: State = "wrong" if not found.ok else "advice" if found.remedy else "ok"
            yield CheckResult(state, f"Redis, {found.name.replace('_', ' ')}: {found.detail}", found.remedy)
        for failing in failing_loops.list_failing_loops(client):
            yield CheckResult(
                "wrong",
                f"process {failing.process}: {failing.loop.replace('_', ' ')} keeps failing ({failing.error})",
                "action=loop_failed in its log says where in the code; it is retried until it works.",
            )
    except redis.RedisError as exc:
        yield CheckResult(
            "wrong",
            f"REDIS_URL: {url} cannot be used: {connections.describe_error(exc)}",
            "Start Redis there, or correct the address, user or password.",
        )
    finally:
        client.close()


def check_cells(cells: Sequence[Cell]) -> Iterator[CheckResult]:
    """Yield which cells answer."""
    if not cells:
        return
    reader = CellsReader(cells, lambda client: client.ping, timeout_seconds=connections.WEB_TIMEOUT_SECONDS)
    try:
        readings = reader.read()
    finally:
        reader.close()
    for one in readings:
        if one.value is not None:
            yield CheckResult("ok", f"CALLBACKS_CELLS: cell {one.cell!r}, {one.redis_url}, answers")
        else:
            yield CheckResult(
                "wrong",
                f"CALLBACKS_CELLS: cell {one.cell!r}: {one.problem}",
                "Start Redis there, or correct the address, user or password; until then the cell is unavailable.",
            )
