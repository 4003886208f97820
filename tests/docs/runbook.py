"""The runbook as a page of `callbacks ops`: the incidents and alerts of docs/operations.md, as HTML by `make docs`.

So the page that says what is wrong links to what to do in the release that runs, and needs no other site.
"""

import re
from collections.abc import Iterator, Sequence
from typing import Final

from markdown_it import MarkdownIt
from markdown_it.token import Token

from tests.docs import pages

PAGE: Final = "docs/operations.md"
_FIRST_HEADING: Final = "# Incidents"
# The page has a heading of its own.
_TAGS: Final = {"h1": "h2", "h2": "h3", "h3": "h4"}


def runbook_lines() -> Iterator[str]:
    """Yield the lines of the template."""
    text = pages.text(PAGE)
    renderer = MarkdownIt("commonmark", {"html": False}).enable("table")
    tokens = renderer.parse(text[text.index(f"\n{_FIRST_HEADING}\n") :])
    _name_headings(tokens)
    _unlink_files(tokens)
    html = renderer.renderer.render(tokens, renderer.options, {})
    # A table that is wider than a phone scrolls, which takes a focus.
    html = html.replace("<table>", '<div class="scroll" tabindex="0"><table>')
    yield "{# Written by `make docs` from docs/operations.md. #}"
    yield "{% raw %}"
    yield from html.replace("</table>", "</table></div>").splitlines()
    yield "{% endraw %}"


def slug(heading: str) -> str:
    """Return the name by which a heading is linked, as repositories make it."""
    return re.sub(r"[^a-z0-9 -]", "", heading.lower()).replace(" ", "-")


def _name_headings(tokens: Sequence[Token]) -> None:
    for number, token in enumerate(tokens):
        if token.type == "heading_open":
            token.attrs["id"] = slug(tokens[number + 1].content)
        if token.tag in _TAGS:
            token.tag = _TAGS[token.tag]


def _unlink_files(tokens: Sequence[Token]) -> None:
    """Leave the words of links to other files: they are not in the package."""
    for token in tokens:
        ends: list[bool] = []
        kept = []
        for child in token.children or ():
            if child.type == "link_open":
                ends.append(not str(child.attrs["href"]).startswith(("http", "#")))
            is_dropped = child.type in {"link_open", "link_close"} and ends[-1]
            if child.type == "link_close":
                ends.pop()
            if not is_dropped:
                kept.append(child)
        if token.children is not None:
            token.children = kept
