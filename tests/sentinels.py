"""Redis that fails over: a primary, replicas, and three private Sentinels that watch them, each on a free port.

Only processes started here are ever ended. What Sentinel writes stays in a folder of its own.
"""

import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import redis

from callbacks.cli.child_processes import tied_to_parent
from tests.redis_server import RedisServer, binary, free_port

SERVICE: Final = "callbacks"
# Sentinel's own pace (hello every 2 s, INFO every 10 s) is not to be changed; only its patience is.
_DOWN_AFTER_MS: Final = 1000
_FAILOVER_TIMEOUT_MS: Final = 4000
_WAIT_SECONDS: Final = 60.0
_NUMBER: Final = 3
_QUORUM: Final = 2
# As durable as production's, and a replica that comes is served at once.
_OPTIONS: Final = {
    "repl-diskless-sync-delay": "0",
    "repl-ping-replica-period": "1",
    "user": "replica on nopass ~* &* +@all",
    "masteruser": "replica",
    "masterauth": "any",
}


class FailingOver:
    """A context manager: a primary with one replica, watched by three Sentinels who know of all of them.

    `options` are lines of redis.conf for all servers, as `RedisServer` takes them.
    """

    def __init__(self, options: Mapping[str, str]) -> None:
        self._options = {**_OPTIONS, **options}
        self._stack = ExitStack()
        self._servers: dict[int, RedisServer] = {}
        self._ports = [free_port() for _ in range(_NUMBER)]

    def __enter__(self) -> Self:
        try:
            primary = self._start({})
            self._watch(primary.port)
            self.attach(primary)
            until(lambda: all(_knows(state) for state in self._states()), "three Sentinels and a replica, all known")
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(
        self, _type: type[BaseException] | None, _value: BaseException | None, _traceback: TracebackType | None
    ) -> None:
        self._stack.close()

    @property
    def url(self) -> str:
        """The address that the service is given: that of the Sentinels."""
        return f"redis+sentinel://{','.join(f'127.0.0.1:{port}' for port in self._ports)}/{SERVICE}/0"

    def primary(self) -> RedisServer:
        """Return the server that the majority of the Sentinels call the primary."""
        fields = [int(state["port"]) for state in self._states()]
        return self._servers[max(fields, key=fields.count)]

    def replica_of(self, primary: RedisServer) -> RedisServer:
        """Return the replica that is online at `primary`."""
        with primary.client() as client:
            ports = [int(replica["port"]) for replica in _replicas(client)]
        return self._servers[ports[0]]

    def cut_off_replicas(self, primary: RedisServer) -> None:
        """Let the replicas of `primary` hear no more of it."""
        with primary.client() as client:
            client.execute_command("ACL", "SETUSER", "replica", "off")
            client.execute_command("CLIENT", "KILL", "USER", "replica")
            until(lambda: not _replicas(client), "no replica online")

    def attach(self, primary: RedisServer) -> RedisServer:
        """Start an empty replica of `primary`, and give it when it is online."""
        replica = self._start({"replicaof": f"127.0.0.1 {primary.port}"})
        with primary.client() as client:
            until(lambda: replica.port in {int(fields["port"]) for fields in _replicas(client)}, "a replica online")
        return replica

    def promoted(self, old: RedisServer) -> RedisServer:
        """Wait until another than `old` is the primary, and takes itself for it; give it."""

        def is_primary() -> bool:
            found = self.primary()
            with found.client() as client:
                return found is not old and client.info("replication")["role"] == "master"

        until(is_primary, "another primary")
        return self.primary()

    def could_fail_over(self) -> bool:
        """Whether every Sentinel knows of a replica that it would promote now: of a new one it hears within 10 s."""
        replica = self.replica_of(self.primary())
        for port, state in zip(self._ports, self._states(), strict=True):
            if state["flags"] != "master":
                return False
            known = {int(fields["port"]): fields for fields in self._ask(port, "REPLICAS")}
            if known.get(replica.port, {}).get("master-link-status") != "ok":
                return False
        return True

    def _start(self, options: dict[str, str]) -> RedisServer:
        server = self._stack.enter_context(RedisServer({**self._options, **options}))
        self._servers[server.port] = server
        return server

    def _watch(self, primary_port: int) -> None:
        server = binary()
        if server is None:
            raise RuntimeError("there is no redis-server")
        folder = Path(tempfile.mkdtemp(prefix="callbacks-sentinels-"))
        self._stack.callback(shutil.rmtree, folder, ignore_errors=True)
        for port in self._ports:
            own = folder / str(port)
            own.mkdir()
            config = own / "sentinel.conf"
            config.write_text(
                f"port {port}\nbind 127.0.0.1\ndir {own}\n"
                f"sentinel monitor {SERVICE} 127.0.0.1 {primary_port} {_QUORUM}\n"
                f"sentinel down-after-milliseconds {SERVICE} {_DOWN_AFTER_MS}\n"
                f"sentinel failover-timeout {SERVICE} {_FAILOVER_TIMEOUT_MS}\n"
            )
            with (own / "sentinel.log").open("wb") as log:
                process = subprocess.Popen(
                    tied_to_parent([str(server), str(config), "--sentinel"]),
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                )
            self._stack.callback(_end, process)

    def _states(self) -> list[dict[str, Any]]:
        """Return what each Sentinel says of the primary; nothing for one that does not answer yet."""
        states = []
        for port in self._ports:
            try:
                states += self._ask(port, "MASTER")
            except redis.ConnectionError:
                states.append({})
        return states

    def _ask(self, port: int, what: str) -> list[dict[str, Any]]:
        with redis.Redis(port=port, decode_responses=True) as client:
            fields: Any = client.execute_command("SENTINEL", what, SERVICE)
        several = fields if isinstance(fields, list) and isinstance(fields[0], (list, dict)) else [fields]
        return [dict(one) if isinstance(one, dict) else dict(zip(one[::2], one[1::2], strict=True)) for one in several]


def _knows(state: dict[str, Any]) -> bool:
    return int(state.get("num-other-sentinels", 0)) == _NUMBER - 1 and int(state.get("num-slaves", 0)) >= 1


def _replicas(client: "redis.Redis") -> list[dict[str, Any]]:
    fields: dict[str, Any] = client.info("replication")
    found = [fields[f"slave{number}"] for number in range(int(fields["connected_slaves"]))]
    return [replica for replica in found if replica["state"] == "online"]


def _end(process: "subprocess.Popen[bytes]") -> None:
    process.terminate()
    process.wait()


def until(true: Callable[[], object], what: str) -> None:
    """Wait until `true()`, at most 60 seconds; a server that is unavailable now counts as false."""
    deadline = time.monotonic() + _WAIT_SECONDS
    while True:
        try:
            if true():
                return
        except redis.RedisError:
            pass
        assert time.monotonic() < deadline, f"{what} did not come about"
        time.sleep(0.05)
