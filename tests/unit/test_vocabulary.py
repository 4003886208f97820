"""One word for one thing: each word of the glossary stands in the code, and words that were given up do not come back.

A retired word is looked for in names (`_is_held`, `HeldBack`: by their parts) or in names and texts. A test's name is a
sentence, so it is read as a text.
"""

import io
import re
import tokenize
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

import pytest

REPOSITORY: Final = Path(__file__).parents[2]
PRODUCT: Final = ("callbacks/", "ingest/", "shared/", "workers/")
_READ: Final = (
    *PRODUCT,
    "tests/",
    "benchmarks/",
    "docs/",
    "deploy/",
    "examples/",
    "scripts/",
    "README.md",
    "CONTRIBUTING.md",
    "CHANGELOG.md",
    "SECURITY.md",
)
# This table, what is made by programs, and what others wrote.
_UNREAD: Final = ("tests/unit/test_vocabulary.py", "requirements", "benchmarks/peers/", "benchmarks/profiles/")
_READ_SUFFIXES: Final = frozenset(
    {".py", ".lua", ".md", ".html", ".css", ".js", ".toml", ".conf", ".yml", ".yaml", ".sh"}
)


@dataclass(frozen=True)
class Retired:
    """Words, what to say instead, and the files in which they are allowed as they mean another thing."""

    words: str
    instead: str
    allowed: tuple[str, ...] = ()

    def __str__(self) -> str:
        return self.words


# Names of Python's own and of libraries: file.tell(), file.seek(), ast.walk(), walk_tb(), walk_revisions().
_OF_LIBRARIES: Final = (
    "callbacks/cli/dev.py",
    "callbacks/cli/folder_lock.py",
    "callbacks/cli/handlers_try.py",
    "workers/handlers/sql/schema.py",
    "workers/reserved_names.py",
    "workers/runtime/outcome.py",
    "workers/testing/interruption.py",
    "tests/background_faults.py",
    "tests/integration/conformance/test_conformance.py",
    "tests/integration/jsonl/test_jsonl_trouble.py",
    "tests/integration/sql/test_errors.py",
    "tests/unit/test_background_starts.py",
    "tests/unit/test_class_names.py",
    "tests/unit/test_library_parts.py",
    "tests/unit/test_log_actions.py",
)
# Neither in names nor in texts.
RETIRED: Final = (
    Retired("notebook, notebooks", "completion journal"),
    Retired("verdict, verdicts", "retry policy, outcome, result"),
    Retired("intake, appetite", "prefetch, free slots"),
    Retired("mercy", "grace"),
    Retired("stray, strays", "orphan"),
    Retired("bury, buries, buried", "reap"),
    Retired("housekeeping", "maintenance"),
    Retired("shelf, shelves", "failures"),
    Retired("set aside, sets aside, setting aside", "quarantine, dead letter; move to the failures"),
    Retired("sieve", "filter"),
    Retired("sought", "search"),
    Retired("whereabouts, fate, fates", "event status"),
    Retired("deed, deeds", "action"),
    Retired("unwanted", "filtered"),
    Retired("switch off, switched off, switches off", "pause"),
    Retired("let in, lets in", "accept, promote, replay"),
    Retired("whoever", "(say who)"),
    Retired("lest", "so that … not"),
    Retired("mend, mends, mended", "repair, correct"),
    Retired("for ever", "forever, without end"),
    Retired("at the most", "at most"),
    Retired("so many", "how many, that many, or the number"),
    Retired("is away, are away, was away", "unavailable"),
    Retired("for want of", "without"),
    Retired("it came to", "(say what happened)"),
    Retired("all the same", "nevertheless, anyway"),
    Retired("in the midst", "during, while"),
    Retired("is at it", "is running"),
    Retired("workbench, nursery, fickle, reckoning", "harness, forkserver, faulty handler, reconciliation"),
    Retired("witness, witnesses", "recorder"),
)
# Not in names; in a sentence they are ordinary English.
RETIRED_NAMES: Final = (
    Retired("place, places", "job transition; position, location"),
    Retired("note, notes, noted", "completion, record; logged"),
    Retired("hands", "in flight; runner"),
    Retired("patience, patient, patiently", "retry, deadline, timeout"),
    Retired("news", "change"),
    Retired("hear, hears, heard", "observe, receive"),
    Retired("tell, tells, told, telling", "report, push; reply, rows, lines, output", _OF_LIBRARIES),
    Retired("look, looks, looked, looking", "check, fetch, read, scan"),
    Retired("offering", "subscription writer"),
    Retired("walk, walks, walking", "cursor, page, scan", _OF_LIBRARIES),
    Retired("seek, seeks, seeking", "search", _OF_LIBRARIES),
    Retired("further", "cursor"),
    Retired("trail", "action log"),
    Retired("tally", "progress, counter, totals"),
    Retired("acting", "bulk action"),
    Retired("carry out, carried out", "run"),
    Retired("go on, goes on", "resume, continue"),
    Retired("figure, figures", "metrics, totals, measurements"),
    Retired("last hour", "recent rate"),
    Retired("seldom, rarely", "rate limited"),
    Retired("standing", "state, status"),
    Retired("lane, lanes", "scenario"),
    Retired("mood, moods", "behavior"),
)
# Whole names, as they are written.
RETIRED_IDENTIFIERS: Final = {
    **dict.fromkeys(("Kept", "NotKept", "NotDocumented"), "Accepted, StoreUnavailable, UnexpectedShape"),
    **dict.fromkeys(("Watcher", "Gate"), "DurabilityGate"),
    **dict.fromkeys(("Gone", "Again", "Apart"), "ClientDisconnected, RetryRequested, Split"),
    **dict.fromkeys(("Held", "_Held", "OnHold", "is_held"), "paused"),
    **dict.fromkeys(("Offered", "OFFERED"), "Subscriptions"),
    **dict.fromkeys(("TAKEN_PREFIX", "taken_along"), "coalesced"),
    **dict.fromkeys(("Steps",), "a role: ClaimStep, SettleStep, Stepwise"),
}
_OPTIMUM: Final = re.compile(r"^_?(MOST|LEAST|LONGEST|SHORTEST)_|^_?(most|least)_[a-z]+s$")


@cache
def _files() -> tuple[str, ...]:
    """Return the files to read, as paths from the repository's root."""
    found = (REPOSITORY / one for one in _READ)
    paths = [path for one in found for path in ([one] if one.is_file() else one.rglob("*"))]
    files = sorted(path.relative_to(REPOSITORY).as_posix() for path in paths if path.suffix in _READ_SUFFIXES)
    return tuple(file for file in files if not file.startswith(_UNREAD))


@cache
def _text(file: str) -> str:
    return (REPOSITORY / file).read_text(encoding="utf-8")


@cache
def _names(file: str) -> tuple[tuple[int, str], ...]:
    """Return the names in a file of code, each with its line; the first is the file's own."""
    found = [(1, Path(file).stem)]
    if file.endswith(".py"):
        tokens = tokenize.generate_tokens(io.StringIO(_text(file)).readline)
        found += [(token.start[0], token.string) for token in tokens if token.type == tokenize.NAME]
    elif file.endswith(".lua"):
        for number, line in enumerate(_text(file).splitlines(), 1):
            code = re.sub(r"--.*|'[^']*'|\"[^\"]*\"", "", line)
            found += [(number, name) for name in re.findall(r"[A-Za-z_]\w*", code)]
    return tuple(found)


@cache
def _parts(name: str) -> tuple[str, ...]:
    """Return the words of a name: `_isHeld_now` is "is", "held", "now"."""
    return tuple(part.lower() for part in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+", name))


@cache
def _name_locations() -> dict[str, list[tuple[str, int]]]:
    """Return where each name stands: file and line."""
    found: dict[str, list[tuple[str, int]]] = defaultdict(list)
    for file in _files():
        for number, name in _names(file):
            found[name].append((file, number))
    return found


def _phrases(retired: Retired) -> list[str]:
    return retired.words.split(", ")


def _in_names(retired: Retired) -> Iterator[str]:
    phrases = [f" {phrase} " for phrase in _phrases(retired)]
    for name, stands in _name_locations().items():
        words = f" {' '.join(_parts(name))} "
        if not name.startswith("test_") and any(phrase in words for phrase in phrases):
            yield from (f"{file}:{number}: {name}" for file, number in stands if file not in retired.allowed)


@cache
def _lines_with_retired_words() -> dict[str, list[tuple[str, int, str]]]:
    """Return the lines of all files in which a word of RETIRED stands, by word."""
    words = sorted((word for retired in RETIRED for word in _phrases(retired)), key=len, reverse=True)
    found: dict[str, list[tuple[str, int, str]]] = defaultdict(list)
    for file in _files():
        text = re.sub("[_-]", " ", _text(file).lower())
        # A search for all words at once is a hundred times slower than for each one that stands in the file somehow.
        either = "|".join(word.replace(" ", "[ _-]") for word in words if word in text)
        if not either:
            continue
        pattern = re.compile(rf"(?<![A-Za-z])(?:{either})(?![A-Za-z])", re.IGNORECASE)
        for number, line in enumerate(_text(file).splitlines(), 1):
            for word in pattern.findall(line):
                found[re.sub("[_-]", " ", word.lower())].append((file, number, line.strip()[:100]))
    return found


def _in_texts(retired: Retired) -> Iterator[str]:
    for word in _phrases(retired):
        for file, number, line in _lines_with_retired_words()[word]:
            if file not in retired.allowed:
                yield f"{file}:{number}: {line}"


@pytest.mark.parametrize("retired", RETIRED, ids=str)
def test_a_retired_word_stands_nowhere(retired: Retired) -> None:
    found = sorted({*_in_names(retired), *_in_texts(retired)})
    assert not found, f"say {retired.instead}:\n" + "\n".join(found)


@pytest.mark.parametrize("retired", RETIRED_NAMES, ids=str)
def test_a_retired_word_is_in_no_name(retired: Retired) -> None:
    found = list(_in_names(retired))
    assert not found, f"say {retired.instead}:\n" + "\n".join(found)


def test_no_retired_identifier_is_used() -> None:
    found = [
        f"{file}:{number}: {name}: say {instead}"
        for name, instead in RETIRED_IDENTIFIERS.items()
        for file, number in _name_locations().get(name, ())
    ]
    assert not found, "\n".join(found)


def test_bounds_are_named_max_and_min() -> None:
    found = [
        f"{file}:{number}: {name}"
        for name, stands in _name_locations().items()
        for file, number in stands
        if _OPTIMUM.search(name)
    ]
    assert not found, "\n".join(found)


def test_a_docstring_says_return_and_never_give() -> None:
    found = [
        f"{file}:{number}: {line.strip()}"
        for file in _files()
        if file.endswith(".py")
        for number, line in enumerate(_text(file).splitlines(), 1)
        if re.match(r'\s*r?"""Gives?\b', line)
    ]
    assert not found, "\n".join(found)


def test_no_module_is_named_with_a_gerund_of_our_own() -> None:
    of_the_field = {"gc_tuning", "logging", "routing", "tracing", "testing", "escaping", "string", "setting", "sizing"}
    modules = [file for file in _files() if file.endswith(".py") and not Path(file).stem.startswith("test_")]
    found = [file for file in modules if Path(file).stem.endswith("ing") and Path(file).stem not in of_the_field]
    assert not found, "\n".join(found)


def test_each_word_of_the_glossary_stands_in_the_code() -> None:
    glossary = (REPOSITORY / "CONTRIBUTING.md").read_text().partition("## Glossary")[2].partition("\n## ")[0]
    rows = [line.split("|")[1].strip() for line in glossary.splitlines() if line.startswith("| ")][1:]
    words = [word.strip(" *") for row in rows for word in re.split(r"[,;]", row)]
    assert len(words) > 30

    of_the_product = (
        name for name, stands in _name_locations().items() if any(file.startswith(PRODUCT) for file, _ in stands)
    )
    names = {_singular(_parts(name)) for name in of_the_product}
    joined = "\n" + "\n".join(" " + " ".join(name) + " " for name in names)
    missing = [word for word in words if f" {' '.join(_singular(tuple(word.lower().split())))} " not in joined]

    assert not missing, missing


@cache
def _singular(parts: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(re.sub(r"(?<=[a-z]{3})s$", "", part) for part in parts)
