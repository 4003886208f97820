"""The table of all that people see of callbacks, and how a test reads it; docs/privacy.md has it.

Each outlet is read from a service that has received a number and a text in every field (`masked_service`).
"""

import contextlib
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeAlias

from shared import keys
from tests.acceptance.masked_service import API_TOKEN, Service
from tests.acceptance.terminals import in_terminal
from workers.personal_data import stores

# Yields texts, each with where it was read.
Reader: TypeAlias = Callable[[Service], Iterator[tuple[str, str]]]


@dataclass(frozen=True)
class Outlet:
    """Where people see something. `expected` is in one of its texts at least: else nothing would be read there."""

    name: str
    what: str
    read: Reader
    expected: str


_COMMANDS: Final = (
    "dead list",
    "dead list raising",
    "dead list raising --json",
    "dead list rejecting --group",
    "dead export raising",
    "dead export rejecting --csv",
    "retries list",
    "retries list --json",
    "quarantine list",
    "quarantine list --json",
    "message m-1",
    "message m-1 --json",
    "message job-1 --json",
    "messages",
    "messages --json",
    "messages --csv",
    "messages --overdue 1s",
    "jobs",
    "jobs --json",
    "stats",
    "stats --json",
    "optouts list",
    "optouts list --json",
    "optouts export",
    "optouts export --csv",
    "handlers",
    "handlers --json",
    "audit",
    "audit --json",
    "check",
    "top --once",
    "top --once --json",
)


def _commands(service: Service) -> Iterator[tuple[str, str]]:
    shows = [f"dead show {name} {letter}" for name, letter in _letters(service)]
    shows += [f"quarantine show {entry}" for entry in service.ids(keys.QUARANTINE)]
    for words in (*_COMMANDS, *shows, *(f"{show} --json" for show in shows)):
        yield words, service.command(*words.split())
    typed = {"COMP_WORDS": "callbacks dead show ", "COMP_CWORD": "3"}
    yield "completion", service.command(**typed, _CALLBACKS_COMPLETE="bash_complete") or "nothing"


def _letters(service: Service) -> Iterator[tuple[str, str]]:
    yield from (("raising", letter) for letter in service.ids(keys.dead("raising")))


def _followers(service: Service) -> Iterator[tuple[str, str]]:
    yield from ((log.name, log.read_text()) for log in service.tails)
    yield "dev", "\n".join(service.dev)


def _terminal(service: Service) -> Iterator[tuple[str, str]]:
    with in_terminal("top", cwd=service.folder, environment=service.environment) as top:
        top.wait_for_output("pausing")
        top.press(b"q")
        top.wait()
        yield "top", top.output


_PAGES: Final = (
    "/",
    "/messages",
    "/messages?id=m-1",
    "/messages?id=r-1",
    "/messages?job=job-1",
    "/messages?overdue=yes",
    "/jobs",
    "/live",
    "/retries",
    "/dead-letters",
    "/dead-letters/raising",
    "/dead-letters/raising/errors",
    "/dead-letters/rejecting/errors",
    "/dead-letters/raising/export.jsonl",
    "/dead-letters/raising/export.csv",
    "/quarantine",
    *(f"/handlers/{name}" for name in ("raising", "rejecting", "retrying", "pausing", "sql")),
    "/actions",
    "/no-such-page",
)


def _pages(service: Service) -> Iterator[tuple[str, str]]:
    letters = [f"/dead-letters/{name}/{letter}" for name, letter in _letters(service)]
    entries = [f"/quarantine/{entry}" for entry in service.ids(keys.QUARANTINE)]
    for path in (*_PAGES, *letters, *entries):
        yield path, service.page(path)


def _streams(service: Service) -> Iterator[tuple[str, str]]:
    yield from ((path, received.decode()) for path, received in service.streams.items())


def _api(service: Service) -> Iterator[tuple[str, str]]:
    document = json.loads(service.page("/api/openapi.json").partition("\n\n")[2])
    for path, operations in document["paths"].items():
        if "get" in operations:
            for named in _named_in(path, service):
                yield named, service.page(named, authorization=f"Bearer {API_TOKEN}")


def _named_in(path: str, service: Service) -> Iterator[str]:
    """Yield the path with whatever its parameter can name."""
    if "{" not in path:
        yield path
        return
    with service.redis.client() as client:
        events = [key.split(":")[-1] for key in client.scan_iter("cb:dead:raising:*")]
    for named in ("m-1", "r-1", "no-such-message", *events):
        yield re.sub(r"\{.*?\}", named, path)


def _open_paths(service: Service) -> Iterator[tuple[str, str]]:
    for path in ("/metrics", "/audit", "/readyz", "/livez"):
        yield f"ops {path}", service.page(path)
    for path in ("/readyz", "/livez", "/", "/nothing"):
        yield f"web {path}", service.page(path, process="web")
    yield "web /metrics", service.page("/metrics", process="metrics")
    yield from ((f"answer {number}", answer) for number, answer in enumerate(service.answers))


def _logs(service: Service) -> Iterator[tuple[str, str]]:
    yield from ((path.name, path.read_text(errors="replace")) for path in service.folder.glob("*.log"))


def _traces(service: Service) -> Iterator[tuple[str, str]]:
    yield "spans", service.collector.raw.decode(errors="replace")
    yield "attributes", "\n".join(map(repr, service.collector.spans))


def _notices(service: Service) -> Iterator[tuple[str, str]]:
    for request in service.notices.requests:
        yield f"{request.number} {request.target}", f"{request.headers}\n{request.body.decode()}"


def _rq(service: Service) -> Iterator[tuple[str, str]]:
    """Yield what RQ's own tools show: all of a job but its data."""
    with service.redis.client(decode_responses=False) as client:
        for key in client.scan_iter("rq:*"):
            kind = client.type(key)
            if kind == b"hash":
                fields = {name: value for name, value in client.hgetall(key).items() if name != b"data"}
                yield key.decode(), repr(fields)
            elif kind == b"stream":
                yield key.decode(), repr(client.xrange(key))
        yield "workers", repr(client.client_list())


_STORES: Final = re.compile("|".join(re.sub(r"<.*?>", "[^:]+", pattern) for row in stores.ROWS for pattern in row.keys))


def _redis(service: Service) -> Iterator[tuple[str, str]]:
    """Yield the keys and values that are not in the table of stores of people's data."""
    with service.redis.client(decode_responses=False) as client:
        for key in client.scan_iter():
            if not _STORES.fullmatch(key.decode()):
                yield key.decode(), repr((key, client.dump(key)))


def _processes(service: Service) -> Iterator[tuple[str, str]]:
    for pid in service.processes():
        for name in ("cmdline", "comm", "environ"):
            with contextlib.suppress(OSError):
                yield f"{pid} {name}", Path(f"/proc/{pid}/{name}").read_text(errors="replace")
        for thread in Path(f"/proc/{pid}/task").glob("*/comm"):
            with contextlib.suppress(OSError):
                yield f"{pid} thread", thread.read_text()


def _files(service: Service) -> Iterator[tuple[str, str]]:
    for path in service.folder.rglob("*"):
        name = str(path.relative_to(service.folder))
        if path.is_file() and not re.match(r"callbacks\.db|var/spool/spool-\d+\.db|handlers\.py|.*\.pyc", name):
            yield name, f"{name} {path.read_bytes().decode(errors='replace')}"


OUTLETS: Final = (
    Outlet("commands", "what commands print, with and without `--json`, and what a shell completes", _commands, "m-1"),
    Outlet("tail, dev", "what `callbacks tail` and `callbacks dev` print while events arrive", _followers, "m-1"),
    Outlet("terminal", "`callbacks top` in a terminal", _terminal, "pausing"),
    Outlet("pages", "each page of `callbacks ops`, its downloads and error pages", _pages, "m-1"),
    Outlet("streams", "what keeps *Now* and *Live* up to date", _streams, "m-1"),
    Outlet("/api", "each operation that reads, and its problem documents", _api, "m-1"),
    Outlet(
        "open paths",
        "`/metrics`, `/readyz`, `/livez`, `/audit`, and what callbacks are answered",
        _open_paths,
        "accepted",
    ),
    Outlet("logs", "all that processes write, at the level DEBUG, and what nobody caught", _logs, "action=uncaught"),
    Outlet("traces", "spans with their attributes, events and errors", _traces, "deliver raising"),
    Outlet("notices", "their texts and headers", _notices, "pausing"),
    Outlet("RQ", "what RQ's tools show of jobs and workers: descriptions, results, names", _rq, "1 event for retrying"),
    Outlet("Redis", "all keys that are not in the table above, with their names", _redis, "cb:counts"),
    Outlet("processes", "command lines, environments, names of processes and threads", _processes, "python"),
    Outlet("files", "all files that are not in the table above, temporary ones too", _files, "deliver-raising"),
)
