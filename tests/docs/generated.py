"""The parts of pages, and files, that are made from the code and from the benchmarks' results: `make docs` writes them.

Each part is between two marks, `<!-- NAME: … -->` and `<!-- /NAME -->`. A test fails if a part is not what would be
written now.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from benchmarks import capacity, sizing, summary
from benchmarks.command import RESULTS
from benchmarks.table import lines as goals_tables
from benchmarks.table import read as read_results
from shared import settings
from shared.opt_outs import IN_WORDS, OUT_WORDS
from tests.acceptance.masked_outlets import OUTLETS
from tests.docs import dashboard, pages, runbook
from tests.hosts import faults, results
from workers.handlers.forward.rules import RULES
from workers.personal_data import stores

_WORDS: Final = ("none", "standard output")
_GOALS: Final = "<!-- benchmarks: made by python -m benchmarks.table -->"
_SIZING: Final = "<!-- benchmarks: made by python -m benchmarks.table --sizing -->"
_SUMMARY: Final = "<!-- benchmarks: made by python -m benchmarks.table --summary -->"


def settings_tables() -> Iterator[str]:
    """Yield the tables of all settings, each with its heading."""
    for title, rows in settings.grouped_rows():
        yield ""
        yield f"## {title}"
        yield ""
        yield "| variable | default | meaning |"
        yield "|---|---|---|"
        for row in rows:
            default = row.default if row.default.startswith(_WORDS) or "`" in row.default else f"`{row.default}`"
            yield f"| `{row.variable}` | {default} | {row.help} |"
    yield ""


def forward_table() -> Iterator[str]:
    """Yield the table of what the handler `forward` makes of an answer."""
    yield "| `forward` receives | the event | the target |"
    yield "|---|---|---|"
    for row in RULES:
        yield f"| {row.answers} | {row.event.value} | {row.target.value} |"


def opt_outs_table() -> Iterator[str]:
    """Yield the table of the keywords with which a reply opts out or in."""
    yield "| a reply | keywords |"
    yield "|---|---|"
    yield f"| opts out | {', '.join(OUT_WORDS)} |"
    yield f"| opts in | {', '.join(IN_WORDS)} |"


def hosts_table() -> Iterator[str]:
    """Yield the table of what became of callbacks while hosts or their network failed."""
    return results.table(results.read(), [fault.name for fault in faults.FAULTS])


def stores_table() -> Iterator[str]:
    """Yield the table of the stores that can hold a person's number or texts."""
    yield "| store | where | how a number is found | how it is erased | until when data stay |"
    yield "|---|---|---|---|---|"
    for row in stores.ROWS:
        yield f"| {row.name} | {row.where} | {row.found} | {row.erased} | {row.until} |"


def outlets_table() -> Iterator[str]:
    """Yield the table of all that a test searches for numbers and texts."""
    yield "| outlet | what is searched |"
    yield "|---|---|"
    yield from (f"| {outlet.name} | {outlet.what} |" for outlet in OUTLETS)


def unreachable_list() -> Iterator[str]:
    """Yield what no command reaches."""
    yield from (f"- {each}" for each in stores.NOT_REACHED)


# Page, first mark, and what is between it and its end.
PARTS: Final[tuple[tuple[str, str, Callable[[], Iterator[str]]], ...]] = (
    ("README.md", _SUMMARY, lambda: summary.lines(read_results(RESULTS))),
    ("docs/performance.md", _GOALS, lambda: goals_tables(read_results(RESULTS))),
    ("docs/performance.md", _SIZING, lambda: sizing.lines(read_results(RESULTS))),
    ("docs/scaling.md", "<!-- scaling: made by make docs -->", lambda: capacity.lines(read_results(RESULTS))),
    ("docs/scaling.md", "<!-- limits: made by make docs -->", lambda: capacity.limit_lines(read_results(RESULTS))),
    ("docs/scaling.md", "<!-- cells: made by make docs -->", lambda: capacity.cell_lines(read_results(RESULTS))),
    ("docs/settings.md", "<!-- settings: made by make docs -->", settings_tables),
    ("docs/privacy.md", "<!-- stores: made by make docs -->", stores_table),
    ("docs/privacy.md", "<!-- outlets: made by make docs -->", outlets_table),
    ("docs/privacy.md", "<!-- unreachable: made by make docs -->", unreachable_list),
    ("docs/guarantees.md", "<!-- hosts: made by make hosts -->", hosts_table),
    ("docs/built-in-handlers.md", "<!-- forward: made by make docs -->", forward_table),
    ("docs/built-in-handlers.md", "<!-- keywords: made by make docs -->", opt_outs_table),
)


def prometheus_rule() -> Iterator[str]:
    """Yield the alerts as an object for the operator of Prometheus."""
    alerts = (pages.REPOSITORY / "deploy/prometheus/alerts.yml").read_text(encoding="utf-8")
    _, begin, groups = alerts.partition("\ngroups:\n")
    yield "# Made of deploy/prometheus/alerts.yml by make docs."
    yield "apiVersion: monitoring.coreos.com/v1"
    yield "kind: PrometheusRule"
    yield "metadata: {name: callbacks, labels: {app: callbacks}}"
    yield "spec:"
    yield from (f"  {line}" if line else "" for line in f"{begin}{groups}".strip().splitlines())


# Whole files.
FILES: Final[tuple[tuple[str, Callable[[], Iterator[str]]], ...]] = (
    ("deploy/kubernetes/components/prometheus/rules.yaml", prometheus_rule),
    ("deploy/grafana/dashboard.json", dashboard.dashboard_lines),
    ("callbacks/ops/html/templates/runbook_content.html", runbook.runbook_lines),
)


def written(text: str, begin: str, lines: Iterator[str]) -> str:
    """Return `text` with the lines between the mark and its end. Raise ValueError unless both are there, in order."""
    end = f"<!-- /{begin.split()[1].rstrip(':')} -->"
    before, found, rest = text.partition(begin)
    _, ended, after = rest.partition(end)
    if not found or not ended or begin in rest:
        raise ValueError(f"the page needs the lines {begin} and {end}, the first of them once")
    return "\n".join((f"{before}{begin}", *lines, f"{end}{after}"))


def main() -> None:
    """Write each part into its page."""
    for page, begin, lines in PARTS:
        path = Path(pages.REPOSITORY / page)
        path.write_text(written(path.read_text(encoding="utf-8"), begin, lines()), encoding="utf-8")
    for name, lines in FILES:
        Path(pages.REPOSITORY / name).write_text("\n".join(lines()) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
