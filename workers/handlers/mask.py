"""Masks phone numbers in what people read: the lines of the handler `log`, `callbacks tail`, the operators' page."""

import re
from collections.abc import Collection
from typing import Any, Final

from callbacks import Event

# The keys of a record that hold a number or a sender's name.
_NUMBER_KEYS: Final = frozenset(("to", "from", "sms_from", "viber_from"))
# Phone numbers have 7 to 15 digits (gateway's integrations). Shorter ones are short codes, not personal data.
_MIN_DIGITS: Final = 7
_HIDDEN_DIGITS: Final = 5
# A value that cannot be decoded (nested too deeply, a number too long) is kept in `raw` as its JSON text, which may
# contain phone numbers anywhere. A GUID in braces does not match.
_JSON_TEXT: Final = re.compile(r"""\{\s*["}]|\[""")


def mask_event(event: Event) -> Event:
    """Return a copy of `event` with phone numbers masked in its fields and in `raw`."""
    numbers = {number for number in (event.sender, event.recipient) if number is not None}
    fields = {name: getattr(event, name) for name in event.__struct_fields__}
    for name, value in fields.items():
        if name != "text" and value.__class__ is str and value in numbers:
            fields[name] = mask_number(value)
    fields["raw"] = mask_record(event.raw, numbers)
    return type(event)(**fields)


def mask_number(value: str) -> str:
    """Hide the middle of a phone number, at least five digits of it: 3567912345123 becomes 35679*****123.

    A text with fewer than seven digits ("Fortytwo", the short code 12345) is not a phone number and stays.
    """
    digits = sum(character.isdigit() for character in value)
    if digits < _MIN_DIGITS:
        return value
    last = min(3, digits - _HIDDEN_DIGITS)
    first = min(5, digits - _HIDDEN_DIGITS - last)
    characters, seen = [], 0
    for character in value:
        if character.isdigit():
            seen += 1
            characters.append(character if seen <= first or seen > digits - last else "*")
        else:
            characters.append(character)
    return "".join(characters)


def mask_record(raw: dict[str, Any], numbers: Collection[str]) -> dict[str, Any]:
    """Return a copy of `raw` with masked numbers: under the known keys, and every value equal to one in `numbers`."""
    copy = dict(raw)
    # Not recursive: a record may be nested almost as deeply as Python's stack allows.
    open_nodes: list[tuple[dict[str, Any] | list[Any], bool]] = [(copy, False)]
    while open_nodes:
        node, within_number = open_nodes.pop()
        items: list[tuple[Any, Any]] = list(node.items() if isinstance(node, dict) else enumerate(node))
        for key, value in items:
            is_number = within_number or key in _NUMBER_KEYS
            if isinstance(value, dict | list):
                node[key] = value.copy()
                open_nodes.append((node[key], is_number))
            elif isinstance(value, str | int) and not isinstance(value, bool) and key != "text":
                text = str(value)
                hidden = mask_number(text) if is_number or text in numbers or _JSON_TEXT.match(text) else text
                if hidden != text:
                    node[key] = hidden
    return copy
