"""Finding handlers: what a name in CALLBACKS_HANDLERS may be, and what is told when it cannot be had."""

import importlib
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from workers import registry
from workers.declaration import HandlerError

HEAD = "from callbacks import ReportEvent, handler\n"
REFUNDS = HEAD + "@handler(ReportEvent)\ndef refund(event): ...\n@handler(ReportEvent)\ndef audit(event): ...\n"

Write = Callable[[str, str], None]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Write]:
    """Yield a function that writes files into a folder that is the current one, and is not on the path."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry not in ("", str(tmp_path))])
    before = set(sys.modules)

    def write_file(name: str, text: str) -> None:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text, encoding="utf-8")
        importlib.invalidate_caches()

    yield write_file
    for name in set(sys.modules) - before:
        if str(getattr(sys.modules[name], "__file__", "")).startswith(str(tmp_path)):
            del sys.modules[name]


def install(write: Write, package: str, entry_points: str) -> None:
    """Install a package's metadata where the current folder is, as pip would."""
    write(f"{package}-1.0.dist-info/METADATA", f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
    write(f"{package}-1.0.dist-info/entry_points.txt", f"[callbacks.handlers]\n{entry_points}\n")


def names(*entries: str) -> list[str]:
    return [handler.name for handler in registry.load(entries)]


def refusal(*entries: str) -> HandlerError:
    with pytest.raises(HandlerError) as error:
        registry.load(entries)
    assert str(error.value).startswith("CALLBACKS_HANDLERS: ")
    return error.value


def test_the_built_in_handler_is_installed() -> None:
    assert "log" in registry.installed_names()
    assert names("log") == ["log"]


def test_a_module_in_the_current_folder_is_found_and_its_handlers_come_in_its_order(write: Write) -> None:
    write("refunds.py", REFUNDS)
    assert names("refunds") == ["refund", "audit"]
    assert sys.path[0] == os.getcwd()  # noqa: PTH109 # as the interpreter itself writes it there


def test_the_current_folder_enters_the_path_once(write: Write) -> None:
    write("refunds.py", REFUNDS)
    registry.load(["refunds"])
    registry.load(["refunds"])
    assert sys.path.count(str(Path.cwd())) == 1


def test_a_module_on_the_python_path_is_found(write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write("elsewhere/refunds.py", REFUNDS)
    monkeypatch.syspath_prepend(str(tmp_path / "elsewhere"))
    assert names("refunds") == ["refund", "audit"]


def test_handlers_come_in_the_order_of_the_names(write: Write) -> None:
    write("shop/__init__.py", "")
    write("shop/refunds.py", REFUNDS)
    write("chat.py", HEAD + "@handler(ReportEvent)\nasync def answer(event): ...\n")
    assert names("chat", "shop.refunds", "log") == ["answer", "refund", "audit", "log"]


def test_naming_a_handler_twice_is_naming_it_once(write: Write) -> None:
    write("refunds.py", REFUNDS + "again = refund\n")
    assert names("refunds", "refunds") == ["refund", "audit"]
    assert names("log", "workers.handlers.log") == ["log"]


def test_an_installed_package_offers_a_module_or_one_function_of_it(write: Write) -> None:
    write("acme/__init__.py", "")
    write("acme/hooks.py", REFUNDS)
    install(write, "acme", "everything = acme.hooks\nonly-audit = acme.hooks:audit")
    assert names("only-audit") == ["audit"]
    assert names("everything") == ["refund", "audit"]
    assert set(registry.installed_names()) >= {"everything", "only-audit", "log"}


def test_an_installed_name_wins_over_a_module_of_that_name(write: Write) -> None:
    write("refunds.py", REFUNDS)
    write("acme.py", HEAD + "@handler(ReportEvent)\ndef acme(event): ...\n")
    install(write, "acme", "refunds = acme")
    assert names("refunds") == ["acme"]


def test_a_name_that_several_packages_claim_is_refused(write: Write) -> None:
    install(write, "acme", "refunds = acme")
    install(write, "zenith", "refunds = zenith")
    assert "'refunds': is offered by several packages: acme, zenith" in str(refusal("refunds"))


@pytest.mark.parametrize(
    ("point", "words"),
    [
        ("acme:missing", "has no attribute 'missing'"),
        ("acme:plain", "acme:plain is not decorated with @handler"),
        ("gone", "No module named 'gone'"),
    ],
)
def test_a_broken_entry_point_is_reported(write: Write, point: str, words: str) -> None:
    write("acme.py", "def plain(event): ...\n")
    install(write, "acme", f"acme-hook = {point}")
    message = str(refusal("acme-hook"))
    assert "'acme-hook'" in message
    assert words in message


@pytest.mark.parametrize("name", ["nowhere", "nowhere.at.all", "shop.nowhere"])
def test_an_unknown_name_is_reported_with_what_is_installed(write: Write, name: str) -> None:
    write("shop/__init__.py", "")
    message = str(refusal(name))
    assert f"{name!r}: is neither an installed handler (" in message
    assert "log" in message
    assert "nor a module on the path" in message


def test_a_misspelt_name_is_reported_with_what_it_may_mean(write: Write) -> None:
    write("refunds.py", REFUNDS)
    write("acme.py", "")
    install(write, "acme", "acme-hook = gone")

    assert str(refusal("Jsnol")).endswith("(did you mean 'jsonl'?)")
    assert str(refusal("refnds")).endswith("(did you mean 'refunds'?)")
    assert "did you mean" not in str(refusal("nowhere"))
    assert "did you mean" not in str(refusal("acme-hook"))


def test_a_file_or_a_function_instead_of_a_module_is_reported_as_such(write: Write) -> None:
    write("shop.py", HEAD + "@handler(ReportEvent)\ndef refund(event): ...\n")

    assert "name it without the .py" in str(refusal("shop.py"))
    assert "name the module, not the function in it" in str(refusal("shop.refund"))


def test_wrong_settings_of_an_installed_handler_read_as_such_and_not_as_a_broken_module(write: Write) -> None:
    write("acme.py", "raise ValueError('ACME_URL: is not set')")
    install(write, "acme", "refunds = acme")

    assert str(refusal("refunds")).endswith("'refunds': its settings: ACME_URL: is not set")
    assert "cannot be imported: ValueError" in str(refusal("acme"))


SETTINGS = (
    HEAD
    + """
import os

def read():
    if not os.environ.get("ACME_URL"):
        raise ValueError("ACME_URL: is not set")

@handler(ReportEvent, settings=read)
def acme(event): ...
@handler(ReportEvent)
def plain(event): ...
"""
)


def test_a_handlers_own_settings_are_read_by_the_processes_that_call_it(
    write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    write("acme.py", SETTINGS)

    assert str(refusal("acme")) == "CALLBACKS_HANDLERS: 'acme': its settings: ACME_URL: is not set"
    monkeypatch.setenv("ACME_URL", "https://acme.example")
    assert names("acme") == ["acme", "plain"]


def test_a_handlers_own_settings_are_nothing_to_who_asks_what_it_wants(write: Write) -> None:
    write("acme.py", SETTINGS)

    loaded = registry.load_each(["acme"], with_settings=False)

    assert [handler.name for handler in loaded.handlers["acme"]] == ["acme", "plain"]
    assert loaded.problems == {}


def test_what_is_wrong_with_one_entry_hides_no_other(write: Write) -> None:
    write("broken.py", "raise OSError('away')")
    write("refunds.py", REFUNDS)
    write("again.py", REFUNDS)

    loaded = registry.load_each(["broken", "refunds", "nowhere", "again", "log"], with_settings=True)

    assert [*loaded.handlers] == ["refunds", "log"]
    assert [*loaded.problems] == ["broken", "nowhere", "again"]
    assert "cannot be imported: OSError: away" in str(loaded.problems["broken"])


@pytest.mark.parametrize(
    ("text", "error", "words"),
    [
        ("import nowhere_at_all", ModuleNotFoundError, "No module named 'nowhere_at_all'"),
        ("from json import nothing", ImportError, "cannot import name 'nothing' from 'json'"),
        ("import os; os.environ['SHOP_URL_MISSING']", KeyError, "SHOP_URL_MISSING"),
        ("def", SyntaxError, "invalid syntax"),
        ("raise SystemExit('no licence')", SystemExit, "no licence"),
    ],
)
def test_a_broken_import_is_reported_in_its_own_words_with_its_traceback(
    write: Write, text: str, error: type[BaseException], words: str
) -> None:
    write("broken.py", text)
    refused = refusal("broken")
    assert f"'broken': cannot be imported: {error.__name__}: " in str(refused)
    assert words in str(refused)
    assert type(refused.__cause__) is error
    assert refused.__cause__.__traceback__ is not None


def test_a_wrong_declaration_is_reported_with_entry_and_function(write: Write) -> None:
    write("refunds.py", HEAD + "@handler(ReportEvent, attempts=0)\ndef refund(event): ...\n")
    assert str(refusal("refunds")) == (
        "CALLBACKS_HANDLERS: 'refunds': refunds.refund: attempts must be a whole number from 1, not 0"
    )


def test_a_module_without_handlers_is_refused(write: Write) -> None:
    write("plain.py", "def refund(event): ...\n")
    assert str(refusal("plain")) == "CALLBACKS_HANDLERS: 'plain': plain declares no handler"


def test_a_handler_that_a_module_merely_imports_is_another_modules(write: Write) -> None:
    write("refunds.py", REFUNDS)
    write("both.py", HEAD + "from refunds import refund\n@handler(ReportEvent)\ndef own(event): ...\n")
    write("only_imports.py", "from refunds import refund\n")
    assert names("both") == ["own"]
    assert "what it imports must be named by its own module: refunds.refund" in str(refusal("only_imports"))


def test_a_package_may_gather_the_handlers_of_its_own_modules(write: Write) -> None:
    write("shop/__init__.py", "from shop.refunds import refund\n")
    write("shop/refunds.py", REFUNDS)
    assert names("shop") == ["refund"]


def test_two_handlers_of_one_name_are_refused(write: Write) -> None:
    write("one.py", REFUNDS)
    write("two.py", REFUNDS)
    message = str(refusal("one", "two"))
    assert message.startswith("CALLBACKS_HANDLERS: 'two': two.refund and one.refund are both named 'refund'")


def test_a_handler_below_another_decorator_is_refused_as_that_one_would_never_run(write: Write) -> None:
    write(
        "wrapped.py",
        HEAD
        + "import functools\n"
        + "def logged(f):\n    @functools.wraps(f)\n    def inner(event): return f(event)\n    return inner\n"
        + "@logged\n@handler(ReportEvent)\ndef refund(event): ...\n",
    )
    assert "wrapped.refund is wrapped by another decorator" in str(refusal("wrapped"))


def test_objects_that_answer_for_any_attribute_are_no_handlers(write: Write) -> None:
    write("lazy.py", REFUNDS + "from unittest.mock import MagicMock\nanything = MagicMock()\n")
    assert names("lazy") == ["refund", "audit"]


@pytest.mark.parametrize(
    "text",
    [
        "import workers.tasks",
        "from workers.tasks import send",
        "from workers import celery_app",
        "import workers\nworkers.celery_app.send()",
        "import shared",
        "from shared import models",
        "from shared.models import Order",
        "import os, ingest",
        "def later():\n    from workers.tasks import send",
        "def later():\n    import ingest.app",
    ],
)
def test_a_module_of_the_project_by_a_name_of_the_service_is_refused(write: Write, tmp_path: Path, text: str) -> None:
    for name in ("workers", "shared", "ingest"):
        write(f"{name}/__init__.py", "")
    write("workers/tasks.py", "def send(): ...")
    write("shared/models.py", "class Order: ...")
    write("refunds.py", f"{REFUNDS}{text}\n")

    message = str(refusal("refunds"))

    reserved = next(name for name in ("workers", "shared", "ingest") if f"name '{name}' is reserved" in message)
    assert f"a handler cannot import {tmp_path / reserved}: rename it, or move it" in message


def test_the_line_that_imports_a_reserved_name_is_named(write: Write, tmp_path: Path) -> None:
    write("shared.py", "")
    write("shop/__init__.py", "")
    write("shop/prices.py", "\n\ndef price():\n    import shared\n")
    write("shop/refunds.py", f"{REFUNDS}import shop.prices\n")

    assert f"{tmp_path / 'shop' / 'prices.py'}, line 4, imports 'shared': the name" in str(refusal("shop.refunds"))


@pytest.mark.parametrize(("file", "entry"), [("ingest.py", "ingest"), ("shared/orders.py", "shared.orders")])
def test_a_handlers_module_with_a_reserved_name_is_refused(write: Write, file: str, entry: str) -> None:
    write(file, REFUNDS)

    assert f"the name '{entry.partition('.')[0]}' is reserved for this service" in str(refusal(entry))


def test_modules_with_reserved_names_that_no_handler_imports_are_nobodys_trouble(write: Write) -> None:
    for name in ("workers", "shared", "ops", "cli"):
        write(f"{name}/__init__.py", "raise RuntimeError")
    write("shop/__init__.py", "")
    write("shop/shared.py", "")
    write("shop/refunds.py", REFUNDS + "from . import shared\nfrom shop import shared\nimport callbacks.testing\n")

    assert names("shop.refunds") == ["refund", "audit"]


def test_the_built_in_handlers_are_found_where_a_project_has_modules_with_reserved_names(write: Write) -> None:
    write("workers/__init__.py", "raise RuntimeError")

    assert names("log", "workers.handlers.jsonl.handler") == ["log", "jsonl"]


@pytest.mark.parametrize(
    ("module", "said"),
    [
        ("\n\nPRICES = {}\nprice = PRICES['x']\n", "KeyError: 'x' (shop.py, line 4)"),
        ("import json\n\nrules = json.loads('{')\n", "(shop.py, line 3)"),
        ("import no_such_library\n", "ModuleNotFoundError: No module named 'no_such_library' (shop.py, line 1)"),
        ("def price(:\n", "SyntaxError: invalid syntax (shop.py, line 1)"),
        ("import prices\n", "RuntimeError: too dear (prices.py, line 2)"),
        ("raise SystemExit(3)\n", "SystemExit: 3 (shop.py, line 1)"),
    ],
    ids=["own line", "line that called a library", "missing library", "syntax", "module that it imports", "exit"],
)
def test_an_error_while_importing_names_the_file_and_the_line(write: Write, module: str, said: str) -> None:
    write("prices.py", "def dear():\n    raise RuntimeError('too dear')\n\ndear()\n")
    write("shop.py", module)

    problem = refusal("shop").problem

    assert problem.startswith("cannot be imported: ")
    assert problem.endswith(said)


def test_an_unexpected_error_of_a_handlers_settings_names_the_file_and_the_line(write: Write) -> None:
    settings = "def read():\n    return {}['url']\n\n@handler(ReportEvent, settings=read)\ndef shop(event): ...\n"
    write("shop.py", HEAD + settings)

    assert refusal("shop").problem == "its settings: KeyError: 'url' (shop.py, line 3)"
