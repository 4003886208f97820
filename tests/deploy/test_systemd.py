"""deploy/systemd: systemd takes the units and finds little to attack, and each starts a process of the Procfile."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.acceptance.processes import CALLBACKS, REPOSITORY, run
from tests.deploy.deployment import DEPLOY

UNITS = sorted((DEPLOY / "systemd").glob("*.service"))
# Of 10; a unit without any hardening has 9.6.
MAX_EXPOSURE = 2.0
BINARY = "/opt/callbacks/bin/callbacks"
each_unit = pytest.mark.parametrize("unit", UNITS, ids=lambda path: path.stem)


def analyze(*arguments: str) -> subprocess.CompletedProcess[str]:
    program = shutil.which("systemd-analyze")
    if program is None:
        pytest.skip("no systemd-analyze on the PATH")
    return subprocess.run([program, *arguments], capture_output=True, text=True, check=False)


def installed(unit: Path, folder: Path) -> Path:
    """Write the unit as it would be if the service were installed where it is here."""
    text = unit.read_text()
    assert BINARY in text
    copy = folder / unit.name
    copy.write_text(text.replace(BINARY, CALLBACKS))
    return copy


@each_unit
def test_systemd_takes_it_without_a_word(unit: Path, tmp_path: Path) -> None:
    reply = analyze("verify", "--man=no", str(installed(unit, tmp_path)))

    assert (reply.returncode, reply.stderr) == (0, "")


@each_unit
def test_little_is_left_to_attack(unit: Path, tmp_path: Path) -> None:
    reply = analyze("security", "--offline=true", "--no-pager", str(installed(unit, tmp_path))).stdout
    found = re.search(r"exposure level for \S+: ([0-9.]+)", reply)

    assert found, reply
    assert float(found.group(1)) <= MAX_EXPOSURE


@each_unit
def test_a_process_that_hangs_is_killed_and_started_again_without_limit(unit: Path) -> None:
    for line in ("Type=notify", "NotifyAccess=main", "WatchdogSec=60s", "Restart=always", "StartLimitIntervalSec=0"):
        assert re.search(f"^{re.escape(line)}$", unit.read_text(), re.MULTILINE), line


@pytest.mark.parametrize(
    ("process", "others"),
    [
        ("web", set()),
        ("expand", set()),
        ("deliver", {"DATABASE_URL_FILE", "CALLBACKS_FORWARD_SECRETS_FILE"}),
        ("ops", {"DATABASE_URL_FILE"}),
    ],
)
def test_the_units_name_the_secrets_that_a_deployment_may_add(process: str, others: set[str]) -> None:
    text = (DEPLOY / "systemd" / f"callbacks-{process}.service").read_text()

    named = set(re.findall(r"^# Environment=(\w+)=%d/", text, re.MULTILINE))
    assert named == {"CALLBACKS_SEAL_KEYS_FILE", *others}


def test_they_start_what_the_procfile_starts(tmp_path: Path) -> None:
    lines = dict(line.split(": ", 1) for line in (REPOSITORY / "Procfile").read_text().splitlines())
    for name, line in lines.items():
        text = (DEPLOY / "systemd" / f"callbacks-{name}.service").read_text()
        (command,) = re.findall(rf"^ExecStart={BINARY} (.*)$", text, re.MULTILINE)
        assert line.endswith(f"callbacks {command}")
        assert run(*command.split(), "--help", cwd=tmp_path).returncode == 0


@each_unit
def test_each_file_that_a_variable_names_is_a_credential_of_the_unit(unit: Path) -> None:
    text = unit.read_text()

    assert set(re.findall(r"_FILE=%d/(\w+)", text)) == set(re.findall(r"LoadCredential=(\w+):", text))
    assert not re.search(r"(REDIS_URL|TOKENS)=", text)
