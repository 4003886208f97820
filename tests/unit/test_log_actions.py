"""What operators search for in the log is documented, and what is documented is logged."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import ingest.log
import shared.logs

_REPOSITORY = Path(__file__).parents[2]
_METHODS = frozenset(("debug", "info", "warning", "error", "exception"))
# The functions that get an action from their caller and log it.
# What each line begins with: no line of ours has other fields of these names.
_FIRST_FIELDS = frozenset(("time", "level", "logger", "process", "action", "message"))
_OTHERS = frozenset(("write", "add_failed"))


def test_every_action_that_is_logged_is_in_a_table_and_every_one_in_a_table_is_logged() -> None:
    tables = (ingest.log.__doc__ or "") + (shared.logs.__doc__ or "")
    documented = set(re.findall(r"^    ([a-z]+(?:_[a-z]+)*(?:, [a-z_]+)*)(?: {2,}|$)", tables, re.MULTILINE))
    assert {name for names in documented for name in names.split(", ")} == {action for action, _ in _logged()}


def test_no_line_has_a_field_that_each_line_begins_with() -> None:
    assert not [(action, fields) for action, fields in _logged() if fields & _FIRST_FIELDS]


def test_no_line_is_written_past_the_loggers_with_fields() -> None:
    own = re.compile(r"""getLogger\("callbacks\.|\(f?["']action=""")
    known = {Path("shared/structured_log.py"), Path("shared/logs.py"), Path("shared/log_lines.py")}
    found = {path.relative_to(_REPOSITORY) for path in _modules() if own.search(path.read_text())}
    assert found <= known


def _logged() -> Iterator[tuple[str, set[str]]]:
    """Yield each action that is logged, with the names of its fields."""
    for path in _modules():
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Call):
                continue
            arguments = list(node.args)
            match node.func:
                case ast.Attribute(value=logger, attr=method) if method in _METHODS and _is_logger(logger):
                    pass
                case ast.Attribute(value=logger, attr="log") if _is_logger(logger):
                    del arguments[0]
                case ast.Name(id=name) | ast.Attribute(attr=name) if name in _OTHERS:
                    pass
                case _:
                    continue
            if arguments and isinstance(arguments[0], ast.Constant) and isinstance(arguments[0].value, str):
                yield arguments[0].value, {keyword.arg for keyword in node.keywords if keyword.arg is not None}


def _is_logger(node: ast.expr) -> bool:
    name = node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""
    return bool(re.search(r"log(?:ger)?$|limited$|_unexpected$", name))


def _modules() -> Iterator[Path]:
    for package in ("callbacks", "ingest", "shared", "workers"):
        yield from (_REPOSITORY / package).rglob("*.py")
