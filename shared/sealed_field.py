"""A field of a hash in Redis that can quote a person: sealed for its key and its name, and opened there only.

What cannot be opened has a text in its place that says why, so that the rest of the hash is of use.
"""

from shared import sealed_data


class Unopened(bytes):
    """Stands for a field that cannot be opened: why."""


def seal(key: str, name: str, value: str | bytes) -> str | bytes:
    """Return a field's value as it is stored; an empty one, or without keys any, as it is."""
    if not value or not sealed_data.is_on():
        return value
    return sealed_data.seal(value if isinstance(value, bytes) else value.encode(), _context(key, name))


def unseal(key: str, name: str, value: bytes) -> bytes:
    """Return a value as it was before it was sealed; or `Unopened`."""
    try:
        return sealed_data.unseal_whole(value, _context(key, name))
    except sealed_data.Sealed as exc:
        return Unopened(str(exc).encode())


def _context(key: str, name: str) -> str:
    return f"{key} {name}"
