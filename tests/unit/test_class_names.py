"""A class name means one thing in the whole product, so that a search for it finds one class."""

import ast
from collections import defaultdict
from pathlib import Path
from typing import Final

REPOSITORY: Final = Path(__file__).parents[2]
PRODUCT: Final = ("callbacks", "ingest", "shared", "workers")


def test_no_two_classes_have_the_same_name() -> None:
    found: dict[str, list[str]] = defaultdict(list)
    for package in PRODUCT:
        for path in sorted((REPOSITORY / package).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.ClassDef):
                    # `_Target` and `Target` would be two meanings of one word too.
                    location = f"{path.relative_to(REPOSITORY)}:{node.lineno}"
                    found[node.name.lstrip("_")].append(location)
    assert len(found) > 100

    repeated = {name: locations for name, locations in found.items() if len(locations) > 1}

    assert not repeated, repeated
