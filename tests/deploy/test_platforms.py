"""docs/platforms.md and deploy/fly: what they set is a setting, and what they start is of the Procfile."""

import re
import tomllib
from typing import Final

from shared import settings
from tests.acceptance.processes import REPOSITORY
from tests.deploy.deployment import DEPLOY
from tests.docs import pages
from tests.docs.pages import Block, with_blocks

PAGE: Final = "docs/platforms.md"
FLY: Final = tomllib.loads((DEPLOY / "fly" / "fly.toml").read_text())
VARIABLES: Final = {row.variable for row in settings.table_rows()}
CONTAINERFILE: Final = (DEPLOY / "container" / "Containerfile").read_text()


def test_fly_starts_what_the_procfile_starts_from_the_same_image() -> None:
    lines = dict(line.split(": ", 1) for line in (REPOSITORY / "Procfile").read_text().splitlines())

    assert FLY["processes"] == {name: line.removeprefix("HOST=${HOST:-0.0.0.0} ") for name, line in lines.items()}
    assert (DEPLOY / "fly" / FLY["build"]["dockerfile"]).resolve() == DEPLOY / "container" / "Containerfile"
    assert settings.load(FLY["env"] | {"REDIS_URL": "redis://redis/0"}).metrics_port == FLY["metrics"][0]["port"]
    assert FLY["env"].keys() <= VARIABLES
    assert f"PORT={FLY['http_service']['internal_port']}" in CONTAINERFILE


def test_fly_keeps_the_spool_of_web_and_stops_no_machine_of_it() -> None:
    (mount,) = FLY["mounts"]
    service = FLY["http_service"]

    assert mount["processes"] == service["processes"] == ["web"]
    assert f"CALLBACKS_SPOOL_DIR={mount['destination']}" in CONTAINERFILE
    assert int(FLY["env"]["CALLBACKS_SPOOL_MAX_BYTES"]) < 1 << 30
    assert service["auto_stop_machines"] is False
    assert [check["path"] for check in service["checks"]] == ["/livez"]


def test_fly_and_the_page_give_deliver_the_time_that_systemd_gives_it() -> None:
    unit = (DEPLOY / "systemd" / "callbacks-deliver.service").read_text()
    (seconds,) = re.findall(r"^TimeoutStopSec=(\d+)s$", unit, re.MULTILINE)
    rows = pages.rows(PAGE, "process", "`stopTimeout`", "health check of the container", "volumes")

    assert FLY["kill_signal"] == "SIGTERM"
    assert FLY["kill_timeout"] == f"{seconds}s"
    assert {name.strip("`"): stop for name, stop, *_ in rows}["deliver"] == seconds
    assert f"`deliver` {seconds} s" in pages.text(PAGE)


@with_blocks(PAGE, "Heroku")
def test_what_is_set_on_heroku_is_right(blocks: list[Block]) -> None:
    (block,) = blocks
    variables = dict(line.split("=", 1) for line in block.text.splitlines())

    loaded = settings.load(variables | {"REDIS_URL": "rediss://h:p@redis:6379?ssl_cert_reqs=none"})

    assert variables.keys() <= VARIABLES
    assert (loaded.spool_dir, loaded.run_dir, loaded.durability) == ("", "", "managed")


@with_blocks(PAGE, "Fly.io")
def test_the_commands_for_fly_name_the_volume_and_the_file_that_are_there(blocks: list[Block]) -> None:
    (block,) = blocks

    assert f"fly volumes create {FLY['mounts'][0]['source']} " in block.text
    (file,) = re.findall(r"--config (\S+)", block.text)
    assert (REPOSITORY / file).is_file()
    assert set(re.findall(r"([A-Z_]+)=", block.text)) <= VARIABLES
