"""What every page of the documentation stands, a new one too.

Each fenced block is taken by a test; each link leads somewhere; each command, target of make, setting, log action,
module and file that a page names is there.
"""

import importlib
import pkgutil
import re
import shlex
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import click
import pytest

import tests.deploy
import tests.docs
from callbacks.cli.main import main
from shared import settings
from tests.docs import pages
from tests.docs.pages import REPOSITORY
from workers.handlers.forward import options

PAGES = pages.names()
# Files that a page has its reader write.
READERS_FILES = frozenset(("orders.py", "ledger.jsonl"))
# Suffixes of files that may name a variable, a log action or a metric.
_SOURCES = (".py", ".lua", ".yml", ".yaml", ".conf", ".cfg", ".service", "Makefile", "Procfile", "Containerfile")


def test_the_pages_are_found() -> None:
    assert {"README.md", "CONTRIBUTING.md", "docs/handlers.md", "docs/rq.md", "deploy/README.md"} <= set(PAGES)


def test_each_block_of_each_page_is_taken_by_a_test() -> None:
    for package in (tests.docs, tests.deploy):
        for module in pkgutil.iter_modules(package.__path__):
            importlib.import_module(f"{package.__name__}.{module.name}")

    untested = {
        (block.page, block.section): block.text.splitlines()[:1]
        for page in PAGES
        for block in pages.blocks(page)
        if (page, block.section) not in pages.tested
    }
    assert untested == {}, "give each to a test by tests.docs.pages.with_blocks"


@pytest.mark.parametrize("page", PAGES)
def test_no_two_sections_with_blocks_have_one_heading(page: str) -> None:
    named = pages.headings(page)
    for block in pages.blocks(page):
        assert named.count(block.section) == 1, block.section


def test_each_page_is_reached_from_the_readme() -> None:
    reached, waiting = {"README.md"}, ["README.md"]
    while waiting:
        for target, _ in _links(waiting.pop()):
            page = str(target.relative_to(REPOSITORY)) if target.is_relative_to(REPOSITORY) else ""
            if page in PAGES and page not in reached:
                reached.add(page)
                waiting.append(page)

    assert set(PAGES) - reached == set()


@pytest.mark.parametrize("page", PAGES)
def test_each_link_leads_to_a_file_and_a_heading_that_are_there(page: str) -> None:
    for target, anchor in _links(page):
        assert target.exists(), target
        if anchor:
            slugs = {_slug(heading) for heading in pages.headings(str(target.relative_to(REPOSITORY)))}
            assert anchor in slugs, f"{target.name}#{anchor}"


@pytest.mark.parametrize("page", PAGES)
def test_each_section_that_its_text_names_is_there(page: str) -> None:
    named = re.findall(r'\bsee\s+"([^"]+)"', pages.prose(page), re.IGNORECASE)
    named += re.findall(r"\bsee\s+([A-Z][a-z]+[A-Z]\w+)", pages.prose(page))

    assert {re.sub(r"\s+", " ", name) for name in named} <= set(pages.headings(page))


@pytest.mark.parametrize("page", PAGES)
def test_each_command_is_one_with_these_options(page: str) -> None:
    for line in _commands(page):
        command: click.Command = main
        context = click.Context(main)
        for word in shlex.split(line)[1:]:
            if isinstance(command, click.Group) and not word.startswith("-"):
                found = command.get_command(context, word)
                if found is None and command is not main and word.isupper():
                    continue
                assert found is not None, f"{line!r}: there is no {word!r}"
                command = found
            elif word.startswith("-") and word != "-":
                names = {name for parameter in command.params for name in parameter.opts}
                assert word in names | {"--help", "--version"}, f"{line!r}: there is no {word!r}"


@pytest.mark.parametrize("page", PAGES)
def test_each_target_of_make_is_one(page: str) -> None:
    makefile = (REPOSITORY / "Makefile").read_text(encoding="utf-8")
    for target in re.findall(r"(?:^|`)make ([a-z-]+)", pages.text(page), re.MULTILINE):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), f"make {target}"


@pytest.mark.parametrize("page", PAGES)
def test_each_variable_is_read_somewhere(page: str) -> None:
    known = {row.variable for row in settings.table_rows()}
    for name in set(re.findall(r"(?<![\w>-])[A-Z][A-Z0-9]+(?:_[A-Z0-9]+)+\b", pages.text(page))):
        if name.startswith("CALLBACKS_FORWARD_"):
            assert any(name.endswith(f"_{option}") for option in options.PARSERS), name
        elif name.startswith("CALLBACKS_"):
            assert name in known, name
        else:
            assert name in known or name.startswith("OTEL_") or name in _sources(), name


@pytest.mark.parametrize("page", PAGES)
def test_each_log_action_and_metric_is_one_of_the_code(page: str) -> None:
    for name in re.findall(r"\baction=(\w+)", pages.text(page)):
        assert re.search(rf"\b{name}\b", _sources()), name
    for name in re.findall(r"\bcallbacks_\w+_(?:total|seconds|bytes)\b", pages.text(page)):
        assert name in _sources(), name


@pytest.mark.parametrize("page", [page for page in PAGES if page != "CHANGELOG.md"])
def test_each_file_and_folder_that_it_names_is_there(page: str) -> None:
    folder = (REPOSITORY / page).parent
    for span in pages.code(page):
        path = re.split(r"::|:\d|#", span)[0].removeprefix("./")
        if not re.fullmatch(r"[\w.-]+(/[\w.-]*)+|[\w.-]+\.(py|md|lua|toml|yml|json|js|html)", path):
            continue
        if "/" not in path:
            assert path in _file_names() or path in READERS_FILES, path
        elif path.startswith("var/"):
            continue  # made when the service runs
        elif any((base / path.partition("/")[0]).exists() for base in (REPOSITORY, folder)):
            assert any((base / path).exists() for base in (REPOSITORY, folder)), path


def _links(page: str) -> Iterator[tuple[Path, str]]:
    """Yield each file of ours that a page links to, and the anchor in it."""
    for link in re.findall(r"\]\(([^)\s]+)\)", pages.prose(page)):
        if re.match(r"[a-z]+:", link):
            continue
        name, _, anchor = link.partition("#")
        folder = (REPOSITORY / page).parent
        yield ((folder / name).resolve() if name else REPOSITORY / page), anchor


def _slug(heading: str) -> str:
    """Return the anchor that GitHub gives a heading."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def _commands(page: str) -> Iterator[str]:
    """Yield each command `callbacks …` in the prose and in the blocks of a page."""
    for span in pages.code(page):
        if re.match(r"callbacks [a-z-]", span):
            yield re.sub(r"[…].*", "", span)
    for block in pages.blocks(page):
        if block.language == "sh":
            yield from re.findall(r"^(?:\w+=\S+ )*(callbacks [a-z-][^|\n]*)$", block.text, re.MULTILINE)


@cache
def _sources() -> str:
    """Return the text of all sources, in which names of the documentation are looked up."""
    paths = (path for path in pages.files() if path.name.endswith(_SOURCES) and path != Path(__file__))
    return "\n".join(path.read_text(encoding="utf-8", errors="replace") for path in paths)


@cache
def _file_names() -> frozenset[str]:
    return frozenset(path.name for path in pages.files())
