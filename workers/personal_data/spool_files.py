"""The spool of this host's web processes: it drains into Redis by itself; what stays in its folder is named.

A web process alone opens its spool, and drains it while Redis is available. Expand drops what then arrives for a
forgotten number (`workers.expand.forgotten`), and a drained spool is deleted. So nothing is changed here: its bytes are
searched, and a file that mentions a number is left, with what to do about it. What is sealed in an open spool cannot be
searched from here: it may mention any number.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from msgspec import Struct

from shared import sealed_data, sealed_part
from shared.number_search import NumberSearch
from workers.personal_data.report import FoundItem, StoreResult, StoreUnreadable

_BLOCK_BYTES: Final = 1 << 20
# A number with all that may be between its digits and what JSON makes of that.
_OVERLAP_BYTES: Final = 4096
_UNTIL: Final = "until Redis has taken it; a file that was set apart: until it is removed"
_OPEN_SUFFIXES: Final = (".db", ".db-wal")
_MALFORMED_SUFFIX: Final = ".malformed"
_SEALED: Final = "it is sealed, and only its web process opens it"
_UNDRAINED: Final = "run this again when its web process has drained it"
_NOT_DRAINABLE: Final = "it could not be drained: remove it, or repair it and run this again"


class _FoundFile(Struct, frozen=True):
    """A file that mentions a number, or, if it is no match, cannot be searched; `why` says what to do about it."""

    path: Path
    is_match: bool
    why: str


class SpoolFiles:
    """The files in the folder."""

    name = "spool"

    def __init__(self, folder: Path, search: NumberSearch) -> None:
        self._folder = folder
        self._search = search

    def erase(self, *, dry_run: bool) -> StoreResult:
        """Count the files that mention a number, or may, and say what to do about them."""
        try:
            found = list(self._iterate())
        except OSError as exc:
            return StoreResult(store=self.name, why=f"{self._folder}: {exc.strerror}", failed=True)
        matches = sum(one.is_match for one in found)
        return StoreResult(
            store=self.name,
            found=matches,
            left=0 if dry_run else matches,
            unreadable=len(found) - matches,
            why="; ".join(f"{one.path.name}: {one.why}" for one in found),
        )

    def export(self) -> Iterator[FoundItem]:
        """Yield each file that mentions a number, without its content, which only a web process reads.

        Raise StoreUnreadable, after the last file: it names them, and those that may mention it.
        """
        not_read: list[str] = []
        for one in self._iterate():
            if one.is_match:
                yield FoundItem(where=str(one.path), until=_UNTIL, content={})
            not_read.append(f"{one.path}: {one.why}")
        if not_read:
            raise StoreUnreadable("; ".join(not_read))

    def _iterate(self) -> Iterator[_FoundFile]:
        """Yield the files that mention a number, and those that cannot be searched and may."""
        for path in sorted(self._folder.iterdir()) if self._folder.is_dir() else ():
            if not path.is_file():
                continue
            is_open = path.name.endswith(_OPEN_SUFFIXES)
            try:
                if is_open or path.name.endswith(_MALFORMED_SUFFIX):
                    is_mentioned, why = self._search_database(path)
                else:
                    is_mentioned, why = self._search_batch(path)
            except FileNotFoundError:  # drained just now
                continue
            if is_mentioned:
                yield _FoundFile(path, True, _UNDRAINED if is_open else _NOT_DRAINABLE)
            elif why:
                yield _FoundFile(path, False, f"{why}: {_UNDRAINED if is_open else _NOT_DRAINABLE}")

    def _search_database(self, path: Path) -> tuple[bool, str]:
        """Return whether the bytes mention a number, and if not, why they may."""
        why, rest = "", b""
        with path.open("rb") as file:
            while block := file.read(_BLOCK_BYTES):
                if self._search.find_in_bytes(rest + block):
                    return True, ""
                why = why or (_SEALED if sealed_part.is_likely_in(rest + block) else "")
                rest = block[-_OVERLAP_BYTES:]
        return False, why

    def _search_batch(self, path: Path) -> tuple[bool, str]:
        """Return whether a batch that was moved to a file mentions a number, and if not, why it may."""
        try:
            batch = sealed_data.unseal_whole(path.read_bytes(), sealed_data.SPOOL)
        except sealed_data.Sealed as exc:
            return False, str(exc)
        return self._search.find_in_bytes(batch), ""
