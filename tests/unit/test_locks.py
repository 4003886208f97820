"""The locks agree, are complete on every Python and system that we support, and say nothing of where packages are."""

import importlib.metadata
import itertools
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
LOCKS = sorted(path.name for path in ROOT.glob("requirements*.txt"))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
# The oldest release of the oldest Python, that of Debian 12, and the newest of each.
PYTHONS = ("3.11.0", "3.11.2", "3.11.15", "3.12.13", "3.13.10", "3.14.4")
SYSTEMS = (
    {"sys_platform": "linux", "platform_system": "Linux"},
    {"sys_platform": "darwin", "platform_system": "Darwin"},
)
IN_THE_IMAGE = ("forward", "notify", "otel", "postgres", "seal", "sql")
MACHINES = ("x86_64", "aarch64", "arm64")


def pins(lock: str) -> dict[str, tuple[str, frozenset[str]]]:
    """Return the version and the hashes of each package."""
    pin = r"^([\w.-]+)==(\S+)(?: ; [^\\\n]+)? \\\n((?: +--hash=\S+(?: \\)?\n)+)"
    found = re.findall(pin, (ROOT / lock).read_text(), re.MULTILINE)
    return {
        canonicalize_name(name): (version, frozenset(re.findall(r"--hash=(\S+)", hashes)))
        for name, version, hashes in found
    }


def environments() -> Iterator[dict[str, str]]:
    for python, system, machine in itertools.product(PYTHONS, SYSTEMS, MACHINES):
        yield {
            "python_full_version": python,
            "python_version": python.rpartition(".")[0],
            "platform_machine": machine,
            "implementation_name": "cpython",
            "platform_python_implementation": "CPython",
            "os_name": "posix",
            "extra": "",
            **system,
        }


def needed_by(package: str) -> set[str]:
    """Return what `package` needs on any Python and system."""
    requirements = map(Requirement, importlib.metadata.requires(package) or ())
    return {
        canonicalize_name(requirement.name)
        for requirement in requirements
        if requirement.marker is None or any(map(requirement.marker.evaluate, environments()))
    }


def test_there_is_one_for_each_purpose() -> None:
    purposes = ("demo", "dev", "image", "server")
    assert [*(f"requirements-{purpose}.txt" for purpose in purposes), "requirements.txt"] == LOCKS


@pytest.mark.parametrize("lock", LOCKS)
def test_each_pins_the_version_and_the_hashes_that_the_others_pin(lock: str) -> None:
    others = pins("requirements.txt")

    for name, pin in pins(lock).items():
        assert others.get(name, pin) == pin, name


@pytest.mark.parametrize("lock", LOCKS)
def test_each_line_of_it_is_a_pin_with_hashes(lock: str) -> None:
    text = (ROOT / lock).read_text()

    assert len(pins(lock)) == text.count("==")
    assert "://" not in text
    assert not re.search(r"^-", text, re.MULTILINE)


@pytest.mark.parametrize("lock", LOCKS)
def test_it_has_what_its_packages_need_on_each_python_and_system(lock: str) -> None:
    installed_with = {"requirements-dev.txt": "requirements.txt", "requirements-server.txt": "requirements-demo.txt"}
    installed = pins(lock).keys() | pins(installed_with.get(lock, lock)).keys()

    for package in pins(lock):
        try:
            missing = needed_by(package) - installed
        except importlib.metadata.PackageNotFoundError:  # a Redis server is installed only where there is none
            continue
        assert not missing, f"{package} needs {missing}: a line in requirements-install.in, then make lock"


def test_the_demo_has_what_the_service_and_its_commands_need_and_nothing_of_other_extras() -> None:
    there = pins("requirements-demo.txt").keys()
    extras = PROJECT["project"]["optional-dependencies"]
    needed = [*PROJECT["project"]["dependencies"], *extras["dev"], *PROJECT["build-system"]["requires"]]

    assert {canonicalize_name(Requirement(need).name) for need in needed} <= there
    for extra in ("forward", "notify", "otel", "postgres", "seal", "server", "sql"):
        assert there.isdisjoint(canonicalize_name(Requirement(need).name) for need in extras[extra])


def test_the_image_has_what_the_service_and_the_extras_of_its_handlers_need_and_nothing_for_development() -> None:
    there = pins("requirements-image.txt").keys()
    extras = PROJECT["project"]["optional-dependencies"]
    needed = [*PROJECT["project"]["dependencies"], *(need for extra in IN_THE_IMAGE for need in extras[extra])]

    assert {canonicalize_name(Requirement(need).name) for need in needed} <= there
    for extra in extras.keys() - {"all", *IN_THE_IMAGE}:
        assert there.isdisjoint(canonicalize_name(Requirement(need).name) for need in extras[extra])


def test_the_whole_has_what_each_extra_needs_but_a_server() -> None:
    extras = PROJECT["project"]["optional-dependencies"]
    needed = {canonicalize_name(Requirement(need).name) for extra in extras.keys() - {"all"} for need in extras[extra]}
    (server,) = extras["server"]

    assert needed - pins("requirements.txt").keys() == {Requirement(server).name}
    assert Requirement(server).name in pins("requirements-server.txt")
