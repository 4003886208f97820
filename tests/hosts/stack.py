"""The whole service on hosts of their own, as docs and deploy/ have it, with the gateway outside.

Two web hosts behind HAProxy, two worker hosts, a Redis primary with a replica and three Sentinels, and a console from
which nothing is cut: what the test itself asks, it asks there.
"""

import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import redis

from shared import audit, connections
from tests import redis_server
from tests.acceptance.processes import REPOSITORY, TOKEN, get
from tests.hosts.host import Host, Process
from tests.hosts.network import Network

GATEWAY: Final = "gateway"
PROXY: Final = "proxy"
WEB: Final = ("web1", "web2")
WORKERS: Final = ("worker1", "worker2")
REDIS: Final = ("redis1", "redis2")
SENTINELS: Final = ("sentinel1", "sentinel2", "sentinel3")
CONSOLE: Final = "console"
NAMES: Final = (GATEWAY, PROXY, *WEB, *WORKERS, *REDIS, *SENTINELS, CONSOLE)
SOURCE: Final = "hosts"

_REDIS_PORT: Final = 6390
_SENTINEL_PORT: Final = 26390
_WEB_PORT: Final = 8080
_PROXY_PORT: Final = 8000
_SERVICE: Final = "callbacks"
_DOWN_AFTER_MS: Final = 3000
_FAILOVER_TIMEOUT_MS: Final = 10_000
# After the longest cut TCP may wait as long again before it tries once more, and Redis a minute for its primary.
_REST_SECONDS: Final = 300.0


class Stack:
    """A context manager; `own_clocks` names the hosts whose clocks a test will set."""

    def __init__(self, folder: Path, *, own_clocks: tuple[str, ...] = ()) -> None:
        self.network = Network(NAMES)
        self._folder = folder
        self._own_clocks = own_clocks
        self._exit = ExitStack()
        self.hosts: dict[str, Host] = {}

    def __enter__(self) -> Self:
        try:
            self._exit.enter_context(self.network)
            for name in NAMES:
                namespace, address = self.network.hosts[name], self.network.address(name)
                self.hosts[name] = Host(namespace, address, self._folder, own_clock=name in self._own_clocks)
                self._exit.callback(self.hosts[name].end)
            self._start_redis()
            self._start_service()
            self.until(self.is_ready, "a service that is ready")
        except BaseException:
            self._exit.close()
            raise
        return self

    def __exit__(
        self, _type: type[BaseException] | None, _value: BaseException | None, _traceback: TracebackType | None
    ) -> None:
        self._exit.close()

    def send(self, *, seconds: float, rate: float, seed: int, ledger: Path) -> Process:
        """Start the gateway: `rate` callbacks a second for about `seconds`, each tried three times in 10 seconds."""
        # Of each destination come 2.9 reports, those sent twice included, and ten are in a callback.
        destinations, replies = max(20, int(seconds * rate * 10 / 2.9)), max(5, int(seconds))
        name = ledger.stem
        self.hosts[GATEWAY].run_service(
            *(name, "simulate", f"http://{self.hosts[PROXY].address}:{_PROXY_PORT}/callbacks/{TOKEN}"),
            *("--seed", str(seed), "--rate", str(rate), "--connections", "32", "--quiet", "--ledger", str(ledger)),
            *("--retry-seconds", "5", "--timeout-seconds", "10"),
            *("--destinations", str(destinations), "--replies", str(replies)),
        )
        return self.hosts[GATEWAY].process(name)

    def is_ready(self) -> bool:
        """Return whether each web host keeps callbacks in Redis, and its spool is empty."""
        return all(
            status == 200 and ready["destination"] == "redis" and not ready["checks"]["spool"]["waiting_callbacks"]
            for status, ready in self._readiness()
        )

    def rest(self) -> audit.Audit:
        """Wait until nothing moves any more, and nothing waits in a spool; return the sum."""
        found: list[audit.Audit] = []

        def rests() -> bool:
            if not self.is_ready():
                return False
            with self._redis_client() as client:
                sums = audit.run(client)
            found[:] = [sums]
            return not sums.pending and not sums.moving and bool(sums.received)

        self.until(rests, "rest")
        return found[0]

    def primary(self) -> str:
        """Return the name of the host that the Sentinels call the primary's."""
        with self._redis_client() as client:
            client.ping()
            pool: Any = client.connection_pool
            address = pool.get_master_address()[0]
        return next(name for name in REDIS if self.hosts[name].address == address)

    def replica(self) -> str:
        """Return the name of the other host of Redis."""
        primary = self.primary()
        return next(name for name in REDIS if name != primary)

    def could_fail_over(self) -> bool:
        """Return whether the primary has its replica, and all Sentinels know of both and of each other."""
        primary = self.primary()
        with self._redis_client() as client:
            info: dict[str, Any] = client.info("replication")
        if int(info["connected_slaves"]) != 1 or info["slave0"]["state"] != "online":
            return False
        for name in SENTINELS:
            with self._client(name, _SENTINEL_PORT) as client:
                state: dict[str, Any] = client.sentinel_master(_SERVICE)  # type: ignore[assignment]
                replicas: list[dict[str, Any]] = client.sentinel_slaves(_SERVICE)
            if state["ip"] != self.hosts[primary].address or state["flags"] != "master":
                return False
            if int(state["num-other-sentinels"]) != len(SENTINELS) - 1:
                return False
            if [one["master-link-status"] for one in replicas] != ["ok"]:
                return False
        return True

    def until(self, true: Callable[[], bool], what: str) -> None:
        """Wait until `true()`, and start what has ended of the service; one that is unavailable counts as false."""
        deadline = time.monotonic() + _REST_SECONDS
        while True:
            for name in (*WEB, *WORKERS):
                self.hosts[name].revive()
            try:
                if true():
                    return
            except redis.RedisError:
                pass
            assert time.monotonic() < deadline, f"{what} did not come about: {self._readiness()}"
            time.sleep(0.25)

    def _start_redis(self) -> None:
        server = str(redis_server.binary())
        first = self.hosts[REDIS[0]].address
        for name in REDIS:
            primary = ["--replicaof", first, str(_REDIS_PORT)] if name != REDIS[0] else []
            # That of deploy/ as it is with replicas; a copy, as after a failover a Sentinel has it rewritten.
            text = (REPOSITORY / "deploy" / "redis" / "redis.conf").read_text(encoding="utf-8")
            config = self.hosts[name].folder / "redis.conf"
            config.write_text(text.replace("# min-replicas-", "min-replicas-"), encoding="utf-8")
            self.hosts[name].run(
                *("redis", server, str(config), "--port", str(_REDIS_PORT)),
                *("--bind", "0.0.0.0", "--protected-mode", "no", "--dir", str(self.hosts[name].folder)),
                *("--repl-diskless-sync-delay", "0", *primary),
            )
        # A Sentinel that starts later hears of the replica at once, an earlier one within ten seconds.
        self.until(self._has_replica, "a primary with its replica")
        for name in SENTINELS:
            config = self.hosts[name].folder / "sentinel.conf"
            config.write_text(
                f"port {_SENTINEL_PORT}\nbind 0.0.0.0\nprotected-mode no\ndir {self.hosts[name].folder}\n"
                f"sentinel monitor {_SERVICE} {first} {_REDIS_PORT} 2\n"
                f"sentinel down-after-milliseconds {_SERVICE} {_DOWN_AFTER_MS}\n"
                f"sentinel failover-timeout {_SERVICE} {_FAILOVER_TIMEOUT_MS}\n"
            )
            self.hosts[name].run("sentinel", server, str(config), "--sentinel")
        self.until(self.could_fail_over, "a primary with its replica, known to three Sentinels")

    def _has_replica(self) -> bool:
        with self._client(REDIS[0], _REDIS_PORT) as client:
            info: dict[str, Any] = client.info("replication")
        return bool(info["connected_slaves"] == 1 and info["slave0"]["state"] == "online")

    def _start_service(self) -> None:
        common = {"REDIS_URL": self._url, "CALLBACKS_DURABILITY": "replica"}
        web = {
            **common,
            "HOST": "0.0.0.0",
            "PORT": str(_WEB_PORT),
            "CALLBACKS_TOKENS": f"{SOURCE}={TOKEN}",
            "CALLBACKS_ALLOWED_IPS": self.hosts[GATEWAY].address,
            "CALLBACKS_TRUSTED_PROXIES": self.hosts[PROXY].address,
        }
        worker = {**common, "CALLBACKS_HANDLERS": "tests.hosts.recorder", "PYTHONPATH": str(REPOSITORY)}
        for name in WEB:
            self.hosts[name].run_service("web", "web", **web)
        for name in WORKERS:
            self.hosts[name].run_service("expand", "worker", "expand", **worker)
            self.hosts[name].run_service("deliver", "worker", "deliver", **worker)
        self.hosts[PROXY].run("haproxy", str(shutil.which("haproxy")), "-db", "-f", str(self._haproxy_configuration()))

    def _haproxy_configuration(self) -> Path:
        """Write deploy/haproxy as it is, without TLS, with our two web hosts."""
        text = (REPOSITORY / "deploy" / "haproxy" / "haproxy.cfg").read_text(encoding="utf-8")
        bind = "bind :443 ssl crt /etc/haproxy/callbacks.pem ssl-min-ver TLSv1.2"
        server = "server web1 127.0.0.1:8080"
        assert bind in text
        assert server in text
        servers = "\n    ".join(f"server {name} {self.hosts[name].address}:{_WEB_PORT}" for name in WEB)
        file = self.hosts[PROXY].folder / "haproxy.cfg"
        file.write_text(text.replace(bind, f"bind :{_PROXY_PORT}").replace(server, servers), encoding="utf-8")
        return file

    @property
    def _url(self) -> str:
        addresses = ",".join(f"{self.hosts[name].address}:{_SENTINEL_PORT}" for name in SENTINELS)
        return f"redis+sentinel://{addresses}/{_SERVICE}/0"

    def _readiness(self) -> list[tuple[int, Any]]:
        with self.network.hosts[CONSOLE].entered():
            return [get(f"http://{self.hosts[name].address}:{_WEB_PORT}/readyz") for name in WEB]

    @contextmanager
    def _redis_client(self) -> Iterator["redis.Redis"]:
        with self.network.hosts[CONSOLE].entered(), connections.connect(self._url, timeout_seconds=5) as client:
            yield client

    @contextmanager
    def _client(self, name: str, port: int) -> Iterator["redis.Redis"]:
        client = redis.Redis(host=self.hosts[name].address, port=port, decode_responses=True, socket_timeout=5)
        with self.network.hosts[CONSOLE].entered(), client:
            yield client
