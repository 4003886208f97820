"""Masks phone numbers and texts in what people read: `callbacks tail`, the operators' page, the handler `log`."""

import re
from collections.abc import Collection
from typing import Any, Final, Literal, TypeVar

from msgspec import Struct
from msgspec.structs import replace

from callbacks import Event
from workers.handlers.number_mask import known_digits, mask_known, mask_number

_StructT = TypeVar("_StructT", bound=Struct)

# What takes the place of a person's words.
MASK: Final = "***"
# The keys of a record that hold a number or a sender's name, and those that hold a text: a report's only in its
# record, as the gateway may add one that the specification does not have.
_NUMBER_KEYS: Final = frozenset(("to", "from", "sms_from", "viber_from"))
TEXT_KEYS: Final = frozenset(("text", "message"))
# The other keys of a reply that the gateway documents.
_PLAIN_KEYS: Final = frozenset(
    ("api_job_id", "client_job_id", "reply_message_id", "orig_message_id", "req_uuid", "channel", "timestamp")
)
# A value that cannot be decoded (nested too deeply, a number too long) is kept in `raw` as its JSON text, which may
# contain phone numbers anywhere. A GUID in braces does not match.
_JSON_TEXT: Final = re.compile(r"""\{\s*["}]|\[""")


def mask_event(event: Event) -> Event:
    """Return a copy of `event` with phone numbers and the text masked in its fields and in `raw`."""
    masked = _mask_event(event, event.kind)
    return replace(masked, text=mask_text(masked.text)) if masked.kind == "reply" else masked


def mask_numbers(event: Event) -> Event:
    """Return a copy of `event` with phone numbers masked in its fields and in `raw`; its text stays."""
    return _mask_event(event, "shown")


def mask_fields(value: _StructT, numbers: Collection[str], *, but: Collection[str] = ()) -> _StructT:
    """Return a copy of a struct in whose texts, and in whose error code, none of the numbers is whole.

    `but` are the names of fields that stay.
    """
    digits = known_digits(numbers)
    changed: dict[str, Any] = {}
    for name in value.__struct_fields__:
        given = getattr(value, name)
        if name in but:
            continue
        if given.__class__ is str:
            hidden: str | None = mask_known(given, numbers, digits)
        elif name == "error_code" and given is not None:
            hidden = None if mask_known(str(given), numbers, digits) != str(given) else given
        else:
            continue
        if hidden != given:
            changed[name] = hidden
    return replace(value, **changed) if changed else value


def mask_text(text: str | None) -> str | None:
    """Return what is shown of a text: nothing but that there is one."""
    return MASK if text else text


def mask_record(
    raw: dict[str, Any], numbers: Collection[str], *, texts: Literal["shown", "report", "reply"] = "shown"
) -> dict[str, Any]:
    """Return a copy of `raw` with masked numbers: under the known keys, and wherever one of `numbers` is in a value.

    Unless `texts` are shown, those under the known keys are masked too, and in a reply what an unknown key has to say.
    """
    copy = dict(raw)
    digits = known_digits(numbers)
    # Not recursive: a record may be nested almost as deeply as Python's stack allows.
    open_nodes: list[tuple[dict[str, Any] | list[Any], bool, bool]] = [(copy, False, False)]
    while open_nodes:
        node, within_number, within_text = open_nodes.pop()
        items: list[tuple[Any, Any]] = list(node.items() if isinstance(node, dict) else enumerate(node))
        for key, value in items:
            is_number = within_number or key in _NUMBER_KEYS
            is_text = within_text or (texts != "shown" and key in TEXT_KEYS)
            if isinstance(value, dict | list):
                node[key] = value.copy()
                open_nodes.append((node[key], is_number, is_text))
            elif isinstance(value, str | int) and not isinstance(value, bool):
                text = str(value)
                if is_text or (texts != "shown" and _JSON_TEXT.match(text)):
                    hidden = mask_text(text) or ""
                elif texts == "reply" and not is_number and is_reply_text(key, text):
                    hidden = MASK
                elif key == "text":
                    continue
                elif is_number or _JSON_TEXT.match(text):
                    hidden = mask_number(text)
                else:
                    hidden = mask_known(text, numbers, digits)
                if hidden != text:
                    node[key] = hidden
        if isinstance(node, dict):
            _mask_keys(node, numbers, digits)
    return copy


def is_reply_text(key: Any, value: str) -> bool:
    """Return whether a value of a reply may be a person's words: under any key that the gateway does not document."""
    return key not in _PLAIN_KEYS and key not in _NUMBER_KEYS and any(map(str.isalpha, value))


def _mask_event(event: Event, texts: Literal["shown", "report", "reply"]) -> Event:
    numbers = {number for number in (event.sender, event.recipient) if number is not None}
    masked = mask_fields(event, numbers, but=("text",))
    return replace(masked, raw=mask_record(event.raw, numbers, texts=texts))


def _mask_keys(node: dict[str, Any], numbers: Collection[str], digits: Collection[str]) -> None:
    """Mask numbers in the keys of an object; they stay in their order."""
    names = {key: mask_known(key, numbers, digits) for key in node}
    if any(key != name for key, name in names.items()):
        values = {names[key]: value for key, value in node.items()}
        node.clear()
        node.update(values)
