"""A private, real Prometheus for tests: on a free port of the loopback address, its files in a given folder."""

import json
import os
import shutil
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import pytest

from callbacks.cli.child_processes import tied_to_parent
from tests.redis_server import free_port

_START_SECONDS: Final = 60.0
_CONFIGURATION: Final = """
global: {scrape_interval: 1s, evaluation_interval: 1s}
rule_files: [%s]
scrape_configs:
  - job_name: callbacks
    static_configs: [{targets: ["%s"]}]
  - job_name: callbacks-web
    static_configs: [{targets: ["%s"]}]
"""


def require(program: str) -> str:
    """Return the path of `prometheus` or `promtool`; skip the test where it is missing; in CI that is a failure."""
    found = shutil.which(program)
    if found is None:
        message = f"no {program} on the PATH: apt-get install prometheus"
        if os.environ.get("CI") == "true":
            pytest.fail(message)
        pytest.skip(message)
    return found


class PrometheusServer:
    """A running server that scrapes `target` and `web_target` (host:port) each second, with `rules`."""

    def __init__(self, folder: Path, *, target: str, web_target: str, rules: Path) -> None:
        self._folder = folder
        self._url = f"http://127.0.0.1:{free_port()}"
        self._configuration = _CONFIGURATION % (rules, target, web_target)
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self._folder.mkdir()
        configuration = self._folder / "prometheus.yml"
        configuration.write_text(self._configuration)
        command = [
            require("prometheus"),
            f"--config.file={configuration}",
            f"--storage.tsdb.path={self._folder / 'data'}",
            f"--web.listen-address={self._url.removeprefix('http://')}",
        ]
        with (self._folder / "prometheus.log").open("wb") as log:
            self._process = subprocess.Popen(tied_to_parent(command), stdout=log, stderr=log, start_new_session=True)
        deadline = time.monotonic() + _START_SECONDS
        while not self._ready():
            assert time.monotonic() < deadline, self._log
            assert self._process.poll() is None, self._log
            time.sleep(0.1)
        return self

    def __exit__(
        self, _type: type[BaseException] | None, _value: BaseException | None, _traceback: TracebackType | None
    ) -> None:
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(30)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()

    def query(self, expression: str) -> list[dict[str, Any]]:
        """Return the series that `expression` has now. Raises ValueError with Prometheus's words if it is no query."""
        found: list[dict[str, Any]] = self.get("query", query=expression)["result"]
        return found

    def get(self, what: str, **words: str) -> Any:
        """Ask its HTTP interface, version 1, and give the data of the answer."""
        try:
            with self._open(f"/api/v1/{what}?{urllib.parse.urlencode(words)}") as answer:
                return json.load(answer)["data"]
        except urllib.error.HTTPError as exc:
            with exc:
                raise ValueError(json.load(exc)["error"]) from exc

    @property
    def _log(self) -> str:
        return (self._folder / "prometheus.log").read_text(errors="replace")

    def _ready(self) -> bool:
        try:
            with self._open("/-/ready") as answer:
                return bool(answer.status == 200)
        except (urllib.error.URLError, ConnectionError):
            return False

    def _open(self, path: str) -> Any:
        # The environment's proxies are none of its business.
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        return opener.open(self._url + path, timeout=10)
