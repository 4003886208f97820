"""What operators search for in the log is documented, and what is documented is logged."""

import re
from pathlib import Path

import ingest.log
import shared.logs

_REPOSITORY = Path(__file__).parents[2]


def test_every_action_that_is_logged_is_in_a_table_and_every_one_in_a_table_is_logged() -> None:
    logged: set[str] = set()
    for package in ("callbacks", "ingest", "shared", "workers"):
        for path in (_REPOSITORY / package).rglob("*.py"):
            logged |= set(re.findall(r"""(?:\baction=|failed\(")([a-z_]+)""", _code(path)))
    tables = (ingest.log.__doc__ or "") + (shared.logs.__doc__ or "")

    documented = set(
        re.findall(r"^    (?:action=)?([a-z]+(?:_[a-z]+)*(?:, [a-z_]+)*)(?: {2,}|$)", tables, re.MULTILINE)
    )
    assert {name for names in documented for name in names.split(", ")} == logged


def _code(path: Path) -> str:
    """Return a module without its own docstring, in which a table may stand."""
    return re.sub(r'\A""".*?"""', "", path.read_text(), flags=re.DOTALL)
