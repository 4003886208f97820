"""While Redis is unavailable *Now* and `top` keep the last status, and ask real web processes for their spools."""

import asyncio
import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from callbacks.cli.main import main
from callbacks.ops.pages.now_feed import NowFeed
from callbacks.ops.status.web_spools import read_web_spools
from shared import connections, settings
from shared.setting_values import HostPort, parse_host_ports
from tests.redis_server import StartRedis, free_port
from tests.web_process import StartWeb, WebProcess, report, until


def metrics_port(web: WebProcess) -> int:
    until(lambda: "metrics: " in web.output)
    (port,) = re.findall(r"^metrics: \S+:(\d+)/metrics$", web.output, re.MULTILINE)
    return int(port)


def test_now_keeps_the_last_status_and_shows_the_spools(
    start_redis: StartRedis, start_web: StartWeb, tmp_path: Path
) -> None:
    redis = start_redis()
    web = start_web(
        redis,
        CALLBACKS_METRICS_PORT="0",
        CALLBACKS_SPOOL_DIR=str(tmp_path / "spool"),
        CALLBACKS_SPOOL_MAX_BYTES=str(1 << 20),
    )
    silent = free_port()
    environ = {"REDIS_URL": redis.url, "CALLBACKS_WEB_METRICS": f"127.0.0.1:{metrics_port(web)},127.0.0.1:{silent}"}
    loaded = settings.load(environ, process="ops")
    with connections.connect(redis.url, timeout_seconds=5) as client, asyncio.Runner() as runner:
        feed = NowFeed(client, loaded)
        assert web.post(report(1)).status_code == 200
        before = runner.run(feed.content())
        assert not before.is_outdated
        redis.kill()
        until(lambda: web.post(report(2)).status_code == 200)
        until(lambda: any(spool.callbacks for spool in read_web_spools(loaded.web_metrics)))

        content = runner.run(feed.content())

        assert content.is_outdated
        assert content.summary.words == "Redis does not answer"
        assert re.search(r"What follows is as of \d\d:\d\d:\d\d UTC, .* ago|just now", content.html)
        assert '<dl class="tiles"' in content.html
        ((_, row), (_, other)) = re.findall(
            r'<tr><th scope="row">127.0.0.1:(\d+)</th>(.*?)</tr>', content.html, re.DOTALL
        )
        assert "stored in the spool" in row
        assert ">1</td>" in row
        assert "of 1 MiB" in row
        assert "unknown: it does not answer (ConnectionRefusedError)" in other

        top = CliRunner().invoke(main, ["top", "--once"], env=environ)
        assert top.exit_code == 1
        assert f"127.0.0.1:{metrics_port(web)}  callbacks are stored; spool filling: 1 callback, " in top.stderr
        assert f"127.0.0.1:{silent}  unknown: it does not answer" in top.stderr


def test_without_a_status_there_is_no_picture_and_without_the_setting_it_says_how_to_see_spools() -> None:
    loaded = settings.load({"REDIS_URL": f"redis://127.0.0.1:{free_port()}/0"}, process="ops")
    with connections.connect(loaded.redis_url, timeout_seconds=5) as client:
        content = asyncio.run(NowFeed(client, loaded).content())

    assert "CALLBACKS_WEB_METRICS" in content.html
    assert "What follows" not in content.html


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("", ()),
        ("web:8082", (HostPort("web", 8082),)),
        (" 10.0.0.1:1 , [2001:db8::1]:65535, ", (HostPort("10.0.0.1", 1), HostPort("2001:db8::1", 65535))),
        ("a:1,a:1", (HostPort("a", 1),)),
    ],
)
def test_hosts_and_ports_are_read(value: str, expected: tuple[HostPort, ...]) -> None:
    assert parse_host_ports(value) == expected


@pytest.mark.parametrize(
    "value", ["web", "web:0", "web:65536", "http://web:8082", "2001:db8::1", "[web]:1", ":1", "a b:1"]
)
def test_what_is_not_a_host_and_a_port_is_refused(value: str) -> None:
    with pytest.raises(ValueError, match="is not host:port"):
        parse_host_ports(value)
