"""One line of CSV, whose cells no spreadsheet takes for a formula."""

import csv
import io
from collections.abc import Iterable
from datetime import datetime
from typing import Any, Final

from shared.events import rfc3339

# Spreadsheets read a cell that begins so as a formula, even in quotes (OWASP, "CSV Injection").
_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r", "\n")


def csv_line(cells: Iterable[Any]) -> str:
    """Return the cells as one line with its end: None is empty, a time is in RFC 3339."""
    line = io.StringIO()
    csv.writer(line).writerow(map(_cell, cells))
    return line.getvalue()


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, datetime):
        return rfc3339(value)
    text = str(value)
    return f"'{text}" if isinstance(value, str) and text.startswith(_FORMULA) else text
