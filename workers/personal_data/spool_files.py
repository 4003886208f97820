"""The spool of this host's web processes: it drains into Redis by itself; what stays in its folder is named.

A web process alone opens its spool, and drains it while Redis is available. Expand drops what then arrives for a
forgotten number (`workers.expand.forgotten`), and a drained spool is deleted. So nothing is changed here: its bytes are
searched, and a file that mentions a number is left, with what to do about it. What is sealed in an open spool cannot be
searched from here: it counts as a file that mentions a number.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from shared import sealed_data, sealed_part
from shared.number_search import NumberSearch
from workers.personal_data.report import FoundItem, StoreResult

_BLOCK_BYTES: Final = 1 << 20
# A number with all that may be between its digits and what JSON makes of that.
_OVERLAP_BYTES: Final = 4096
_UNTIL: Final = "until Redis has taken it; a file that was set apart: until it is removed"
_OPEN_SUFFIXES: Final = (".db", ".db-wal")
_MALFORMED_SUFFIX: Final = ".malformed"


class SpoolFiles:
    """The files in the folder."""

    name = "spool"

    def __init__(self, folder: Path, search: NumberSearch) -> None:
        self._folder = folder
        self._search = search

    def erase(self, *, dry_run: bool) -> StoreResult:
        """Count the files that mention a number, and say what to do about them."""
        try:
            found = list(self._iterate())
        except OSError as exc:
            return StoreResult(store=self.name, why=f"{self._folder}: {exc.strerror}", failed=True)
        why = [
            f"{path.name}: run this again when its web process has drained it"
            if path.name.endswith(_OPEN_SUFFIXES)
            else f"{path.name}: it could not be drained: remove it, or repair it and run this again"
            for path in found
        ]
        return StoreResult(store=self.name, found=len(found), left=0 if dry_run else len(found), why="; ".join(why))

    def export(self) -> Iterator[FoundItem]:
        """Yield each file that mentions a number, without its content, which only a web process reads."""
        for path in self._iterate():
            yield FoundItem(where=str(path), until=_UNTIL, content={})

    def _iterate(self) -> Iterator[Path]:
        if self._folder.is_dir():
            yield from (path for path in sorted(self._folder.iterdir()) if path.is_file() and self._mentions(path))

    def _mentions(self, path: Path) -> bool:
        rest = b""
        try:
            if not path.name.endswith((*_OPEN_SUFFIXES, _MALFORMED_SUFFIX)):
                return self._mentions_batch(path.read_bytes())
            with path.open("rb") as file:
                while block := file.read(_BLOCK_BYTES):
                    if self._search.find_in_bytes(rest + block) or sealed_part.is_likely_in(rest + block):
                        return True
                    rest = block[-_OVERLAP_BYTES:]
        except FileNotFoundError:  # drained just now
            return False
        return False

    def _mentions_batch(self, stored: bytes) -> bool:
        """Return whether a batch that was moved to a file mentions a number, or may, as it cannot be opened."""
        try:
            return self._search.find_in_bytes(sealed_data.unseal_whole(stored, sealed_data.SPOOL))
        except sealed_data.Sealed:
            return True
