"""What the service overrides, calls or writes of its libraries beyond their documented interface.

A release that names one of them otherwise would fail in mid-work, or worse: where RQ no longer calls our end of a job,
its own would put jobs back that are done. So pyproject.toml caps these libraries at the line that was tested, and each
process looks at its start whether what it relies on is there. A test holds this table against the code.
"""

import inspect
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import reduce
from importlib import import_module
from importlib.metadata import version
from types import FunctionType
from typing import Any, Final, Literal, TypeAlias

from shared.errors import CallbacksError

Name: TypeAlias = Literal["hiredis", "httpcore", "httptools", "redis", "rq", "uvicorn", "uvloop"]


class MissingPart(CallbacksError):
    """An installed library lacks what the service relies on."""


@dataclass(frozen=True, slots=True)
class Library:
    """The line that was tested, and the names relied on, by the class or module ("module:Class") that has them.

    A name with parameters, as `finish(job, queue)`, is a method that must take these by position, in this order.
    """

    line: str
    parts: Mapping[str, str]


LIBRARIES: Final[Mapping[Name, Library]] = {
    "hiredis": Library(">=3.2,<3.6", {"hiredis": "pack_command(cmd)"}),
    "httpcore": Library(
        ">=1.0.9,<1.1",
        {
            "httpcore:AsyncNetworkBackend": "connect_tcp(host, port, timeout, local_address, socket_options) sleep",
            "httpcore:AsyncNetworkStream": "read(max_bytes, timeout) write(buffer, timeout) start_tls aclose "
            "get_extra_info",
            "httpcore": "AnyIOBackend AsyncHTTPConnection ConnectError ConnectTimeout WriteError URL",
        },
    ),
    "httptools": Library(
        ">=0.6.4,<0.10",
        {
            "httptools:HttpRequestParser": "feed_data get_method should_upgrade",
            "httptools": "HttpParserError HttpParserUpgrade",
        },
    ),
    "redis": Library(
        ">=8.1,<8.2",
        {
            "redis.asyncio.connection:AbstractConnection": "send_packed_command(command) read_response(timeout) "
            "disconnect(nowait)",
            "redis.asyncio.connection:ConnectionPool": "get_connection release(connection)",
            "redis:Redis": "eval execute_command pipeline",
            "redis.client:Pipeline": "command_stack execute explicit_transaction",
            "redis.asyncio.sentinel:SentinelConnectionPool": "disconnect(inuse_connections)",
            "redis.asyncio.sentinel:SentinelManagedConnection": "read_response",
            "redis.connection": "Connection SSLConnection UnixDomainSocketConnection parse_url",
            "redis.connection:Connection": "disconnect read_response",
            "redis.sentinel:SentinelConnectionPool": "disconnect(inuse_connections) sentinel_manager",
            "redis.sentinel:SentinelManagedConnection": "read_response",
        },
    ),
    "rq": Library(
        ">=3.0,<3.1",
        {
            "rq:SimpleWorker": "_finalize_success(job, queue, execution, return_value) "
            "_finalize_failure(job, queue, execution, exc_info) _stop_requested connection death_penalty_class "
            "dequeue_job_and_maintain_ttl(timeout, max_idle_time) dequeue_timeout execute_job(job, queue) executions "
            "executions_key get_redis_server_version heartbeat(timeout, pipeline) job_class name "
            "perform_job(job, queue, execution) prepare_job_execution queue_class queues request_stop(signum, frame) "
            "serializer set_state(state, pipeline) should_run_maintenance_tasks subscribe teardown work",
            "rq.job:Job": "create id key key_for prepare_for_execution(worker_name, pipeline) redis_server_version "
            "to_dict(include_meta) worker_name",
            "rq.executions:Execution": "create(job, ttl, pipeline, worker_name) from_composite_key id job_id key "
            "worker_name",
            "rq.executions": "WORKER_EXECUTIONS_KEY_TEMPLATE",
            "rq.executions:ExecutionRegistry": "key_template",
            "rq.intermediate_queue:IntermediateQueue": "get_intermediate_queue_key",
            "rq:Queue": "dequeue_any(queues, timeout, connection, job_class, serializer, death_penalty_class)",
            "rq.registry:FailedJobRegistry": "key_template",
            "rq.registry:ScheduledJobRegistry": "key_template",
            "rq.registry:StartedJobRegistry": "key_template",
            "rq.timeouts:BaseDeathPenalty": "cancel_death_penalty setup_death_penalty",
            "rq.worker_registration": "REDIS_WORKER_KEYS WORKERS_BY_QUEUE_KEY clean_worker_registry",
            "rq.utils": "as_text utcparse",
        },
    ),
    "uvicorn": Library(
        ">=0.54,<0.55",
        {
            "uvicorn.protocols.http.httptools_impl:HttpToolsProtocol": "_unset_keepalive_if_required client "
            "connection_lost(exc) connection_made(transport) cycle data_received(data) flow headers loop on_body(body) "
            "on_header(name, value) on_headers_complete on_message_complete parser pipeline scope server_state "
            "timeout_keep_alive_task transport url",
            "uvicorn.protocols.http.httptools_impl:RequestResponseCycle": "access_log disconnected keep_alive "
            "message_event more_body on_response response_complete response_started scope waiting_for_100_continue",
            "uvicorn.protocols.http.flow_control:FlowControl": "write_paused",
            "uvicorn.server:ServerState": "default_headers",
            "uvicorn.supervisors:Multiprocess": "sockets terminate_all",
            "uvicorn:Server": "shutdown(sockets)",
        },
    ),
    "uvloop": Library(">=0.21,<0.24", {"uvloop": "new_event_loop"}),
}


def check(*names: Name) -> None:
    """Raise MissingPart if one of these libraries lacks what the service relies on."""
    for name in names:
        library = LIBRARIES[name]
        for part in missing_parts(library):
            raise MissingPart(
                f"{name} {version(name)} lacks {part}, which callbacks needs; install {name}{library.line}"
            )


def missing_parts(library: Library) -> Iterator[str]:
    """Yield what the installed release lacks, as people write it."""
    for where, names in library.parts.items():
        module, _, owner = where.partition(":")
        try:
            found = reduce(getattr, filter(None, [owner]), import_module(module))
        except (ImportError, AttributeError):
            yield where.replace(":", ".")
            continue
        for name, parameters in parse_names(names):
            if not has_name(found, name) or not _takes(getattr(found, name, None), parameters):
                yield f"{owner or module}.{name}" + (f"({', '.join(parameters)})" if parameters else "")


def parse_names(names: str) -> Iterator[tuple[str, list[str]]]:
    """Yield each name of a table's text, with the parameters that it must take."""
    for text in names.replace(", ", ",").split():
        name, _, parameters = text.rstrip(")").partition("(")
        yield name, [parameter for parameter in parameters.split(",") if parameter]


def has_name(owner: Any, name: str) -> bool:
    """Return whether a module or class has this name, or its methods read or write it on themselves."""
    if hasattr(owner, name):
        return True
    return any(
        name in function.__code__.co_names
        for one in getattr(owner, "__mro__", ())
        for function in vars(one).values()
        if isinstance(function, FunctionType)
    ) or any(name in getattr(one, "__annotations__", {}) for one in getattr(owner, "__mro__", ()))


def _takes(function: Any, parameters: list[str]) -> bool:
    if not parameters:
        return True
    try:
        known = [name for name in inspect.signature(function).parameters if name != "self"]
    except (TypeError, ValueError):  # of C
        return True
    # By position where we override or call it so: those that it has must be these, in this order.
    return [name for name in known if name in parameters] == parameters
