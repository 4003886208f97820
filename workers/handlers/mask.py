"""Masks phone numbers and texts in what people read: `callbacks tail`, the operators' page, the handler `log`."""

import re
from collections.abc import Collection, Iterable
from typing import Any, Final, Literal

from msgspec.structs import replace

from callbacks import Event, phone_numbers

# What takes the place of a person's words.
MASK: Final = "***"
# The keys of a record that hold a number or a sender's name, and those that hold a text.
_NUMBER_KEYS: Final = frozenset(("to", "from", "sms_from", "viber_from"))
_TEXT_KEYS: Final = frozenset(("text", "message"))
# The other keys of a reply that the gateway documents.
_PLAIN_KEYS: Final = frozenset(
    ("api_job_id", "client_job_id", "reply_message_id", "orig_message_id", "req_uuid", "channel", "timestamp")
)
# Phone numbers have 7 to 15 digits (gateway's integrations). Shorter ones are short codes, not personal data.
_MIN_DIGITS: Final = 7
_HIDDEN_DIGITS: Final = 5
# A value that cannot be decoded (nested too deeply, a number too long) is kept in `raw` as its JSON text, which may
# contain phone numbers anywhere. A GUID in braces does not match.
_JSON_TEXT: Final = re.compile(r"""\{\s*["}]|\[""")


def mask_event(event: Event) -> Event:
    """Return a copy of `event` with phone numbers and the text masked in its fields and in `raw`."""
    masked = mask_numbers(event)
    raw = mask_record(masked.raw, (), texts=event.kind)
    return replace(masked, raw=raw, text=mask_text(masked.text)) if masked.kind == "reply" else replace(masked, raw=raw)


def mask_numbers(event: Event) -> Event:
    """Return a copy of `event` with phone numbers masked in its fields and in `raw`; its text stays."""
    numbers = {number for number in (event.sender, event.recipient) if number is not None}
    fields = {name: getattr(event, name) for name in event.__struct_fields__}
    for name, value in fields.items():
        if name != "text" and value.__class__ is str:
            fields[name] = mask_within(value, numbers)
    fields["raw"] = mask_record(event.raw, numbers)
    return type(event)(**fields)


def mask_within(text: str, numbers: Collection[str]) -> str:
    """Return a text, such as an id of a client's, in which none of the numbers is whole."""
    return _mask_digits(text, numbers, _digits(numbers))


def mask_text(text: str | None) -> str | None:
    """Return what is shown of a text: nothing but that there is one."""
    return MASK if text else text


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


def mask_record(
    raw: dict[str, Any], numbers: Collection[str], *, texts: Literal["shown", "report", "reply"] = "shown"
) -> dict[str, Any]:
    """Return a copy of `raw` with masked numbers: under the known keys, and wherever one of `numbers` is in a value.

    Unless `texts` are shown, those under the known keys are masked too, and in a reply what an unknown key has to say.
    """
    copy = dict(raw)
    digits = _digits(numbers)
    # Not recursive: a record may be nested almost as deeply as Python's stack allows.
    open_nodes: list[tuple[dict[str, Any] | list[Any], bool, bool]] = [(copy, False, False)]
    while open_nodes:
        node, within_number, within_text = open_nodes.pop()
        items: list[tuple[Any, Any]] = list(node.items() if isinstance(node, dict) else enumerate(node))
        for key, value in items:
            is_number = within_number or key in _NUMBER_KEYS
            is_text = within_text or (texts != "shown" and key in _TEXT_KEYS)
            if isinstance(value, dict | list):
                node[key] = value.copy()
                open_nodes.append((node[key], is_number, is_text))
            elif isinstance(value, str | int) and not isinstance(value, bool):
                text = str(value)
                if is_text or (texts != "shown" and _JSON_TEXT.match(text)):
                    hidden = mask_text(text) or ""
                elif texts == "reply" and not is_number and key not in _PLAIN_KEYS and any(map(str.isalpha, text)):
                    hidden = MASK
                elif key == "text":
                    continue
                elif is_number or _JSON_TEXT.match(text):
                    hidden = mask_number(text)
                else:
                    hidden = _mask_digits(text, numbers, digits)
                if hidden != text:
                    node[key] = hidden
    return copy


def _mask_digits(text: str, numbers: Collection[str], digits: Iterable[str]) -> str:
    if text in numbers:
        return mask_number(text)
    for number in digits:
        if number in text:
            text = text.replace(number, mask_number(number))
    return text


def _digits(numbers: Iterable[str]) -> list[str]:
    """Return the digits of those that are phone numbers."""
    found = map(phone_numbers.comparable, numbers)
    return [number for number in found if len(number) >= _MIN_DIGITS and number.isdigit()]
