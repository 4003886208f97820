"""A new release replaces the old one, process by process, under load: nothing is lost and nothing comes twice."""

import itertools
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from shared import audit
from tests.acceptance.processes import REPOSITORY, Running, get, started
from tests.acceptance.test_campaign import acknowledged, delivered
from tests.certificates import self_signed
from tests.deploy.deployment import DEPLOY, TOKEN, environment
from tests.deploy.test_proxies import nginx
from tests.redis_server import RedisServer, free_port

NEXT = "99.0.0"
PACKAGES = ("callbacks", "ingest", "shared", "workers")


@pytest.fixture(scope="module")
def next_release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Install a release with another version into a folder of its own; give that folder."""
    source, installed = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("next")
    for name in PACKAGES:
        shutil.copytree(REPOSITORY / name, source / name)
    shutil.copy(REPOSITORY / "README.md", source)
    text = (REPOSITORY / "pyproject.toml").read_text()
    (source / "pyproject.toml").write_text(re.sub(r'^version = ".*"', f'version = "{NEXT}"', text, flags=re.MULTILINE))
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "--no-deps", "--no-build-isolation", "--target", str(installed), str(source)], check=True)
    return installed


@contextmanager
def campaigns(start: Callable[..., Running], url: str, pem: Path) -> Iterator[None]:
    """Send one campaign after another, twice at once, so that one is sending while the other starts its next."""
    is_over = threading.Event()

    def send(first_seed: int) -> None:
        for seed in itertools.count(first_seed, 2):
            gateway = start(
                *("simulate", url, "--ca", str(pem), "--ledger", f"ledger-{seed}.jsonl", "--seed", str(seed)),
                *("--destinations", "150", "--replies", "15", "--bundle", "1-4", "--rate", "65"),
                *("--retry-seconds", "1"),
            )
            assert gateway.wait() == 0, gateway.output
            if is_over.is_set():
                return

    with ThreadPoolExecutor(2) as senders:
        sending = [senders.submit(send, first_seed) for first_seed in (1, 2)]
        try:
            yield
        finally:
            is_over.set()
    for sent in sending:
        sent.result()


def test_nothing_is_lost_or_doubled_while_every_process_is_replaced(
    redis_server: RedisServer, tmp_path: Path, next_release: Path
) -> None:
    if shutil.which("nginx") is None:
        pytest.skip("no nginx on the PATH")
    front_port, ports, pem = free_port(), [free_port(), free_port()], self_signed(tmp_path)
    text = (DEPLOY / "nginx" / "callbacks.conf").read_text()
    text = text.replace("server 127.0.0.1:8080 ", f"server 127.0.0.1:{ports[1]} max_fails=0; server 127.0.0.1:8080 ")
    launcher = str(next_release / "callbacks" / "launcher.py")
    known = environment(redis_server.url, 0, tmp_path) | {"CALLBACKS_TRUSTED_PROXIES": "127.0.0.1"}
    gateways = tmp_path / "gateways"
    gateways.mkdir()
    with (
        started(tmp_path, known, forked=False) as start,
        started(gateways, {}) as gateway,
        redis_server.client(decode_responses=False) as client,
    ):

        def newer(*arguments: str, **extra: str) -> Running:
            # A process finds its own release's packages, so it is started as that release starts.
            return start("-P", launcher, "callbacks.launcher", *arguments, command=sys.executable, **extra)

        def web(port: int, *, begin: Callable[..., Running] = start) -> Running:
            # Each has a spool of its own, as on machines of their own.
            process = begin("web", PORT=str(port), CALLBACKS_SPOOL_DIR=str(tmp_path / f"spool{port}"))
            process.until(lambda: get(f"http://127.0.0.1:{port}/readyz")[0] == 200, "readiness")
            return process

        def delivered_so_far() -> int:
            return sum(handler.delivered for handler in audit.run(client).handlers)

        version = newer("--version", PYTHONPATH=str(next_release))
        assert version.wait() == 0
        assert NEXT in version.output

        webs = [web(port) for port in ports]
        expand, deliver = start("worker", "expand"), start("worker", "deliver")
        program, *arguments = nginx(text, tmp_path, pem, front_port, ports[0])
        start(*arguments, command=program)

        def flowing() -> None:
            before = delivered_so_far()
            webs[0].until(lambda: delivered_so_far() > before, "more deliveries")

        with campaigns(gateway, f"https://127.0.0.1:{front_port}/callbacks/{TOKEN}", pem):
            flowing()
            for number, port in enumerate(ports):
                assert webs[number].stop() == 0
                webs[number] = web(port, begin=newer)
                flowing()
            assert expand.stop() == 0
            expand = newer("worker", "expand")
            flowing()
            assert deliver.stop() == 0
            deliver = newer("worker", "deliver")
            flowing()
        deliver.until(lambda: audit.run(client).pending == 0, "rest")

        assert audit.run(client).balances
    expected = set[str]().union(*(acknowledged(file, source="deployed") for file in gateways.glob("ledger-*.jsonl")))
    assert len(expected) > 1000
    found = delivered(tmp_path / "events.jsonl")
    # Told apart by us: pytest would compare thousands of ids letter by letter.
    assert not expected - found.keys(), "lost"
    assert not found.keys() - expected, "nobody sent these"
    assert set(found.values()) == {1}, "doubled"
