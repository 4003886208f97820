"""The options of `callbacks check` that are for a body: which file, and how it is posted."""

from collections.abc import Callable
from typing import Any, BinaryIO, Final, TypeVar

import click

from callbacks.cli import body_check, body_report
from callbacks.cli.body_report import BodyReport
from shared import settings
from shared.schema import Kind

_Function = TypeVar("_Function", bound=Callable[..., Any])

# As the gateway sends it.
_CONTENT_TYPE: Final = "application/json; charset=utf-8"
_SHOWN: Final = 20


def body_options(function: _Function) -> _Function:
    """Add the options to a command. Those that are not given are None."""
    for option in reversed(
        (
            click.option("--body", type=click.File("rb"), metavar="FILE", help="Check this body; - is standard input."),
            click.option(
                "--kind", type=click.Choice(["status", "reply"]), help="With --body: the URL that it is posted to."
            ),
            click.option(
                "--content-type", metavar="TYPE", help=f"With --body: its Content-Type.  [default: {_CONTENT_TYPE}]"
            ),
            click.option(
                "--content-encoding", metavar="CODING", help="With --body: its Content-Encoding, such as gzip."
            ),
            click.option(
                "--limit",
                type=click.IntRange(0),
                metavar="N",
                help=f"With --body: show N records, and N at fault.  [default: {_SHOWN}]",
            ),
        )
    ):
        function = option(function)
    return function


def check_body(
    *,
    body: BinaryIO | None,
    kind: Kind | None,
    content_type: str | None,
    content_encoding: str | None,
    limit: int | None,
) -> BodyReport | None:
    """Return the report of the body; None if there is none. Raise UsageError for the other options without one."""
    if body is None:
        for option, value in (
            ("--kind", kind),
            ("--content-type", content_type),
            ("--content-encoding", content_encoding),
            ("--limit", limit),
        ):
            if value is not None:
                raise click.UsageError(f"{option} is for a body: give --body FILE too.")
        return None
    headers = [(b"content-type", _encode(_CONTENT_TYPE if content_type is None else content_type))]
    if content_encoding is not None:
        headers.append((b"content-encoding", _encode(content_encoding)))
    max_body_bytes = _read_limit()
    # One byte more shows that it is too large, so a file of any size can be checked.
    answered = body_check.answer(body.read(max_body_bytes + 1), headers, kind, max_body_bytes=max_body_bytes)
    return body_report.summarize(answered, body_check.read_records(answered), limit=_SHOWN if limit is None else limit)


def _encode(value: str) -> bytes:
    return value.encode("latin-1", "replace")


def _read_limit() -> int:
    others = [setting.variable for name, setting in settings.BY_FIELD.items() if name != "max_body_bytes"]
    return settings.load(unused=others).max_body_bytes
