"""Build what is released, a source archive and a wheel: from one commit the same bytes.

They are built twice, in two folders with other rights and times, and compared. Only files of the commit come into them.
The wheel is built of the source archive. The tools are the locked ones. Another zlib may compress to
other bytes.
"""

import argparse
import gzip
import hashlib
import io
import os
import subprocess
import sys
import tarfile
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

ROOT: Final = Path(__file__).parents[1]
SUMS: Final = "SHA256SUMS"
# The two calls of pyproject.toml's build backend (PEP 517), with the setuptools that is installed, which is locked.
_CALL: Final = "import sys; from setuptools import build_meta; getattr(build_meta, sys.argv[1])(sys.argv[2])"
# What the environment could change: the order of sets, the language and zone of dates.
_FIXED: Final = {"PYTHONHASHSEED": "0", "LC_ALL": "C.UTF-8", "TZ": "UTC"}
_UMASK: Final = 0o022


class Problem(Exception):
    """What is wrong, then what to do."""


def main() -> None:
    """Read the command line, build, and print the digests. Exits with 1 and a sentence if that fails."""
    parser = argparse.ArgumentParser(description="Build the source archive and the wheel of a commit.")
    parser.add_argument("--commit", default="HEAD", help="the commit or tag to build (default: HEAD)")
    parser.add_argument("--folder", type=Path, default=ROOT / "dist", help="where they are written (default: dist)")
    options = parser.parse_args()
    try:
        sys.stdout.write(build_commit(options.commit, options.folder))
    except Problem as exc:
        sys.exit(str(exc))


def build_commit(commit: str, folder: Path) -> str:
    """Write the archives of a commit and SHA256SUMS into `folder`; return what is in that. Raise Problem."""
    archive = _git("archive", "--format=tar", commit)
    made_at = int(_git("log", "-1", "--format=%ct", commit))
    with TemporaryDirectory() as first, TemporaryDirectory() as second:
        found = _build_there(archive, Path(first), made_at=made_at)
        before = os.umask(0o077)
        try:
            again = _build_there(archive, Path(second), made_at=made_at, touched=True)
        finally:
            os.umask(before)
        if found != again:
            changed = ", ".join(name for name in found if found[name] != again.get(name))
            raise Problem(f"two builds differ in {changed}: find what the build takes from its surroundings")
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in found.items():
        (folder / name).write_bytes(content)
    sums = "".join(f"{hashlib.sha256(content).hexdigest()}  {name}\n" for name, content in found.items())
    (folder / SUMS).write_text(sums)
    return sums


def build(source: Path, folder: Path, *, made_at: int) -> tuple[Path, Path]:
    """Build the sources in `source`, which gets files of its own; return the source archive and the wheel in `folder`.

    `made_at`, in seconds since 1970, is the time of every file in them. Raise Problem.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory() as work:
        raw = _call("build_sdist", source, Path(work, "raw"), made_at=made_at)
        archive = folder / raw.name
        archive.write_bytes(normalize(raw.read_bytes(), made_at=made_at))
        with tarfile.open(archive) as opened:
            opened.extractall(work, filter="data")
        unpacked = Path(work, archive.name.removesuffix(".tar.gz"))
        return archive, _call("build_wheel", unpacked, folder.absolute(), made_at=made_at)


def normalize(archive: bytes, *, made_at: int) -> bytes:
    """Return a source archive with its files by name, of nobody, of one time, and with the rights that Git knows."""
    written = io.BytesIO()
    with (
        tarfile.open(fileobj=io.BytesIO(archive)) as read,
        # No name, as it would be that of a temporary file.
        gzip.GzipFile(filename="", mode="wb", fileobj=written, mtime=made_at) as packed,
        tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as ordered,
    ):
        for entry in sorted((entry for entry in read if entry.isfile()), key=lambda entry: entry.name):
            plain = tarfile.TarInfo(entry.name)
            plain.size, plain.mtime = entry.size, made_at
            plain.mode = 0o755 if entry.mode & 0o100 else 0o644
            ordered.addfile(plain, read.extractfile(entry))
    return written.getvalue()


def _build_there(archive: bytes, work: Path, *, made_at: int, touched: bool = False) -> dict[str, bytes]:
    """Unpack a commit in `work`, build it, and return the archives; `touched` gives its files the present time."""
    source = work / "source"
    with tarfile.open(fileobj=io.BytesIO(archive)) as opened:
        opened.extractall(source, filter="data")
    if touched:
        for path in source.rglob("*"):
            path.touch()
    return {path.name: path.read_bytes() for path in build(source, work / "dist", made_at=made_at)}


def _call(hook: str, source: Path, folder: Path, *, made_at: int) -> Path:
    folder.mkdir(exist_ok=True)
    known = set(folder.iterdir())
    # -P: modules of the sources are not those of Python or of setuptools.
    _run(
        (sys.executable, "-P", "-c", _CALL, hook, str(folder)),
        cwd=source,
        environment=_FIXED | {"SOURCE_DATE_EPOCH": str(made_at)},
    )
    (made,) = set(folder.iterdir()) - known
    return made


def _git(*arguments: str) -> bytes:
    return _run(("git", *arguments), cwd=ROOT, environment={})


def _run(command: tuple[str, ...], *, cwd: Path, environment: dict[str, str]) -> bytes:
    known = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    ended = subprocess.run(
        command,
        cwd=cwd,
        env=known | environment,
        umask=_UMASK,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
    )
    if ended.returncode:
        raise Problem(f"{' '.join(command)} failed: {ended.stderr.decode(errors='replace').strip()}")
    return ended.stdout


if __name__ == "__main__":
    main()
