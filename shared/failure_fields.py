"""The fields of a stored failure that can hold a person's number or words: sealed when written, opened when read.

A field that cannot be opened has a text in its place that says why, so that the failure is listed, and stays.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final, TypeVar

from shared import sealed_data

_SEALED: Final = frozenset(("body", "event", "error", "traceback", "whole_error", "whole_traceback", "headers"))

_Value = TypeVar("_Value", bound=str | bytes | int | float)


class Unopened(bytes):
    """Stands for a field that cannot be opened: why."""


def seal(key: str, fields: Mapping[str, _Value]) -> Mapping[str, _Value | bytes]:
    """Return the fields of the failure at a key as they are stored."""
    if not sealed_data.is_on():
        return fields
    return {
        name: sealed_data.seal(_as_bytes(value), _context(key, name)) if name in _SEALED and value else value
        for name, value in fields.items()
    }


def unseal(key: str, names: Sequence[str], values: Sequence[bytes | None]) -> list[Any]:
    """Return the values of fields that were read, as they were before they were sealed; or `Unopened`."""
    return [
        _unseal(value, _context(key, name)) if value and name in _SEALED else value
        for name, value in zip(names, values, strict=True)
    ]


def _unseal(value: bytes, context: str) -> bytes:
    try:
        return sealed_data.unseal_whole(value, context)
    except sealed_data.Sealed as exc:
        return Unopened(str(exc).encode())


def _context(key: str, name: str) -> str:
    return f"{key} {name}"


def _as_bytes(value: str | bytes | float) -> bytes:
    return value if isinstance(value, bytes) else str(value).encode()
