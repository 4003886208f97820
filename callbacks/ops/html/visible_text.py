"""Untrusted text made safe to read: invisible and direction-changing characters are shown by their number.

A right-to-left override lets `fdp.exe` read as `exe.pdf`, a control character moves a terminal's cursor once the text
is copied there, and a zero-width space makes two different words appear equal. (Unicode TR 36, section 2; Boucher and
Anderson, "Trojan Source", 2021.)
"""

import re
import unicodedata
from typing import Final

from markupsafe import Markup, escape

from shared.counted import counted

# Control characters but tab and line feed; lone surrogates; private and unassigned ones; line and paragraph separators.
_CATEGORIES: Final = frozenset(("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"))
# Persian is written with the first of them, and families of emoji are joined by the second.
_PLAIN: Final = frozenset("\t\n\u200c\u200d")
# Only other characters need a closer check; nearly all text has none.
_SUSPECT: Final = re.compile(r"[^\t\n\x20-\x7e]")


def escape_visibly(text: object, most: int | None = None) -> Markup:
    """Return `text` as HTML that shows each such character by its number, as in U+202E, and isolates its direction.

    It is cut after `most` characters, and says how many are missing. `None` becomes an en dash.
    """
    if text is None:
        return Markup("\u2013")
    whole = str(text)
    shown = whole if most is None else whole[:most]
    parts: list[str] = []
    done = 0
    for found in _SUSPECT.finditer(shown):
        character = found.group()
        if character in _PLAIN or unicodedata.category(character) not in _CATEGORIES:
            continue
        parts += (str(escape(shown[done : found.start()])), _name_character(character))
        done = found.end()
    parts.append(str(escape(shown[done:])))
    left = len(whole) - len(shown)
    rest = f'<span class="cut">… and {counted(left, "more character")}</span>' if left else ""
    return Markup(f"<bdi>{''.join(parts)}</bdi>{rest}")  # noqa: S704 # every part of it was escaped above


def _name_character(character: str) -> str:
    name = unicodedata.name(character, "control character").lower()
    return f'<span class="unseen" title="{name}">U+{ord(character):04X}</span>'
