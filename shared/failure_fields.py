"""The fields of a stored failure that can hold a person's number or words: sealed when written, opened when read.

A field that cannot be opened has a text in its place that says why, so that the failure is listed, and stays.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final, TypeVar

from shared import sealed_data, sealed_field

SEALED: Final = ("body", "event", "error", "traceback", "whole_error", "whole_traceback", "headers")

# Of them those that can hold any bytes. One that looks sealed and is not, as a stranger can send it, is named in PLAIN.
_BINARY: Final = ("body", "event")
PLAIN: Final = "plain"

_Value = TypeVar("_Value", bound=str | bytes | int | float)


def seal(key: str, fields: Mapping[str, _Value]) -> Mapping[str, _Value | str | bytes]:
    """Return the fields of the failure at a key as they are stored."""
    stored: dict[str, _Value | str | bytes] = dict(fields)
    resembling = [name for name in _BINARY if _resembles_sealed(fields.get(name))]
    if resembling:
        # Empty if they are sealed now: the same failure may have been stored before there were keys.
        stored[PLAIN] = "" if sealed_data.is_on() else " ".join(resembling)
    if sealed_data.is_on():
        stored |= {name: sealed_field.seal(key, name, _as_text(fields[name])) for name in SEALED if name in fields}
    return stored


def unseal(key: str, names: Sequence[str], values: Sequence[bytes | None], plain: bytes | None) -> list[Any]:
    """Return the values of fields that were read, as they were before they were sealed; or `sealed_field.Unopened`.

    `plain` is the value of the field PLAIN.
    """
    as_they_are = (plain or b"").decode(errors="replace").split()
    return [
        sealed_field.unseal(key, name, value) if value and name in SEALED and name not in as_they_are else value
        for name, value in zip(names, values, strict=True)
    ]


def key_ids(names: Sequence[str], values: Sequence[bytes | None], plain: bytes | None) -> frozenset[str]:
    """Return the ids of the keys with which fields are sealed, from their values as `unseal` takes them."""
    as_they_are = (plain or b"").decode(errors="replace").split()
    sealed = (value for name, value in zip(names, values, strict=True) if value and name not in as_they_are)
    return frozenset().union(*(sealed_data.key_ids(value) for value in sealed if sealed_data.is_sealed(value)))


def _as_text(value: str | bytes | float) -> str | bytes:
    return value if isinstance(value, str | bytes) else str(value)


def _resembles_sealed(value: object) -> bool:
    return isinstance(value, bytes) and sealed_data.is_sealed(value)
