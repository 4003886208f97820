"""Whether the processes can listen where the settings say, and who may reach the operators' page."""

import functools
import http.client
import urllib.request
from collections.abc import Iterator

from callbacks.cli import ops_address, ports
from callbacks.cli.checks.result import CheckResult
from callbacks.ops.access import sign_in_settings
from shared.errors import ConfigurationError
from shared.settings import Settings

# Our own /metrics answers within milliseconds, and has less than that.
_METRICS_SECONDS = 2.0
_METRICS_BYTES = 1 << 20


def check_addresses(loaded: Settings) -> Iterator[CheckResult]:
    """Try the addresses as `callbacks web` and `callbacks ops` do. One that is in use is one where they may run."""
    web, ops = (
        functools.partial(ports.bind, loaded.host, loaded.port),
        functools.partial(ops_address.bind, loaded.ops_host, loaded.ops_port, loaded),
    )
    binds = [("HOST", web), ("CALLBACKS_OPS_HOST", ops)]
    if loaded.metrics_port is not None:
        yield from _metrics_port(loaded.metrics_port, loaded)
        binds.append(
            ("CALLBACKS_METRICS_HOST", functools.partial(ports.bind, loaded.metrics_host, loaded.metrics_port))
        )
    for variable, bind in binds:
        try:
            bind().close()
        except ports.NoPort as exc:
            if not exc.is_in_use:
                yield CheckResult(
                    "wrong", f"{variable}: {exc}", "Set an address of this machine, and a port that this user may use."
                )
        except ConfigurationError as exc:
            yield CheckResult("wrong", str(exc), "Until then `callbacks ops` does not start.")
    for problem in sign_in_settings.find_problems(loaded):
        yield CheckResult("wrong", problem, "Until then `callbacks ops` does not start.")
    problem = ops_address.plain_http_problem(loaded, loaded.ops_host)
    if problem:
        yield CheckResult("advice", problem, ops_address.PLAIN_HTTP_REMEDY)


def _metrics_port(port: int, loaded: Settings) -> Iterator[CheckResult]:
    """Find what else uses the port of the web process's /metrics: another setting, or another program."""
    for variable, other in (("PORT", loaded.port), ("CALLBACKS_OPS_PORT", loaded.ops_port)):
        if port and port == other:
            yield CheckResult(
                "wrong",
                f"CALLBACKS_METRICS_PORT and {variable} are both {port}",
                "Set another port: two of them cannot listen on the same one.",
            )
            return
    try:
        ports.bind(loaded.metrics_host, port).close()
    except ports.NoPort as exc:
        if exc.is_in_use and not _serves_metrics(loaded.metrics_host, port):
            yield CheckResult(
                "wrong",
                f"CALLBACKS_METRICS_PORT: {exc}, by another program than `callbacks web`",
                "Set another port, or end that program: until then the web process does not start.",
            )


def _serves_metrics(host: str, port: int) -> bool:
    """Return whether a web process of this service serves its /metrics there."""
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # a proxy does not reach this machine
    try:
        with direct.open(f"{ports.reachable_url(host, port)}/metrics", timeout=_METRICS_SECONDS) as answer:
            return b"callbacks_build_info" in answer.read(_METRICS_BYTES)
    except (OSError, ValueError, http.client.HTTPException):
        return False
