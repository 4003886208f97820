"""The undocumented parts of libraries that the service overrides, calls or writes.

With a release that renames one of them the service would fail while it works, or worse: if RQ no longer called our end
of a job, its own would requeue jobs that are done. So pyproject.toml limits these libraries to the versions that were
tested, and each process checks at its start that the parts it needs exist. A test compares this table with the code.
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
    """An installed library lacks a part that the service needs."""


@dataclass(frozen=True, slots=True)
class Library:
    """The versions that were tested, and the names that are needed, by the class or module ("module:Class") of each.

    A name with parameters, such as `finish(job, queue)`, is a method that takes these by position, in this order.
    """

    versions: str
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
            "_finalize_failure(job, queue, execution, exc_info) _state _stop_requested check_for_suspension(burst) "
            "connection death_penalty_class "
            "dequeue_job_and_maintain_ttl(timeout, max_idle_time) dequeue_timeout execute_job(job, queue) executions "
            "executions_key get_redis_server_version heartbeat(timeout, pipeline) "
            "increment_successful_job_count(pipeline) increment_total_working_time(job_execution_time, pipeline) "
            "job_class name "
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
            "rq.utils": "as_text now utcparse",
        },
    ),
    "uvicorn": Library(
        ">=0.54,<0.55",
        {
            "uvicorn.protocols.http.httptools_impl:HttpToolsProtocol": "_unset_keepalive_if_required app_state client "
            "connection_lost(exc) connection_made(transport) cycle data_received(data) flow headers loop on_body(body) "
            "on_headers_complete on_message_complete parser pipeline scope server_state "
            "timeout_keep_alive_task transport url",
            "uvicorn.protocols.http.httptools_impl:RequestResponseCycle": "access_log body disconnected keep_alive "
            "message_event more_body on_response response_complete response_started scope waiting_for_100_continue",
            "uvicorn.protocols.http.flow_control:FlowControl": "write_paused",
            "uvicorn.server:ServerState": "default_headers",
            "uvicorn.config": "STARTUP_FAILURE",
            "uvicorn.supervisors:Multiprocess": "config init_processes keep_subprocess_alive processes processes_num "
            "should_exit sockets terminate_all",
            "uvicorn.supervisors.multiprocess:Process": "_server child_conn config exitcode join kill pid "
            "ping(timeout) pong process server start",
            "uvicorn:Server": "on_tick(counter) shutdown(sockets) started startup(sockets)",
        },
    ),
    "uvloop": Library(">=0.21,<0.24", {"uvloop": "new_event_loop"}),
}


def check(*names: Name) -> None:
    """Raise MissingPart if one of these libraries lacks a part that the service needs."""
    for name in names:
        library = LIBRARIES[name]
        for part in missing_parts(library):
            raise MissingPart(
                f"{name} {version(name)} lacks {part}, which callbacks needs; install {name}{library.versions}"
            )


def missing_parts(library: Library) -> Iterator[str]:
    """Yield the parts that the installed release lacks, for messages."""
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
    """Yield each name of a text in the table, with the parameters that it must take."""
    for text in names.replace(", ", ",").split():
        name, _, parameters = text.rstrip(")").partition("(")
        yield name, [parameter for parameter in parameters.split(",") if parameter]


def has_name(owner: Any, name: str) -> bool:
    """Return whether a module or class has this name, or its methods read or write it as an attribute."""
    if hasattr(owner, name):
        return True
    return any(
        name in function.__code__.co_names
        for base in getattr(owner, "__mro__", ())
        for function in vars(base).values()
        if isinstance(function, FunctionType)
    ) or any(name in getattr(base, "__annotations__", {}) for base in getattr(owner, "__mro__", ()))


def _takes(function: Any, parameters: list[str]) -> bool:
    # What a function of C calls its parameters is unknown: since Python 3.13 some have a signature, of Python's words.
    if not parameters or inspect.isbuiltin(function):
        return True
    try:
        known = [name for name in inspect.signature(function).parameters if name != "self"]
    except (TypeError, ValueError):  # of Cython
        return True
    # We override it, or call it by position: so it must have these parameters, in this order.
    return [name for name in known if name in parameters] == parameters
