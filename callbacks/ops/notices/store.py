"""What the `callbacks ops` processes of one Redis share: the states of conditions, the unsent notices, and the lease.

One document, changed in a transaction, so that a process that has lost its lease meanwhile changes nothing.

    cb:notices           {"conditions": {key: ConditionState}, "unsent": [{"target": key, "notice": Notice}]} as JSON
    cb:notices:sender    the name of the process that holds the lease
"""

import os
from collections.abc import Callable
from typing import Any, Final, TypeVar

import msgspec
import redis
from msgspec import Struct

from callbacks.ops.notices.condition_state import ConditionState
from callbacks.ops.notices.notice import Notice
from shared import keys

T = TypeVar("T")

# A process that has not renewed its lease for this long has ended, and another sends.
LEASE_SECONDS: Final = 30


class UnsentNotice(Struct, frozen=True):
    """A notice that has not reached a target, by the target's key."""

    target: str
    notice: Notice

    @property
    def key(self) -> tuple[str, str]:
        """Its target and the notice's id."""
        return self.target, self.notice.id


class Document(Struct, frozen=True):
    """The states of the conditions by key, and the notices to send, the oldest first."""

    conditions: dict[str, ConditionState] = msgspec.field(default_factory=dict)
    unsent: tuple[UnsentNotice, ...] = ()


class LeaseLost(Exception):
    """Another process has the lease by now."""


class NoticeStore:
    """The document and the lease, over one connection. Every method may raise redis.RedisError."""

    def __init__(self, connection: redis.Redis) -> None:
        self._connection: Any = connection
        self._name = os.urandom(8).hex()

    def hold_lease(self) -> bool:
        """Take or renew the lease; return whether this process has it."""
        if self._connection.set(keys.NOTICES_SENDER, self._name, nx=True, ex=LEASE_SECONDS):
            return True
        if not self._has_lease(self._connection):
            return False
        return bool(self._connection.expire(keys.NOTICES_SENDER, LEASE_SECONDS))

    def release(self) -> None:
        """Release the lease, so that another process sends at once."""
        if self._has_lease(self._connection):
            self._connection.delete(keys.NOTICES_SENDER)

    def read(self) -> Document:
        """Return the document."""
        return _parse(self._connection.get(keys.NOTICES))

    def update(self, change: Callable[[Document], Document], *, as_sender: bool = True) -> Document:
        """Replace the document by what `change` makes of it, and return that. `change` may be called several times.

        Raise LeaseLost if this process does not have the lease, unless `as_sender` is false.
        """

        def run(pipe: Any) -> Document:
            before = _parse(pipe.get(keys.NOTICES))
            if as_sender and not self._has_lease(pipe):
                raise LeaseLost
            after = change(before)
            pipe.multi()
            if after != before:
                pipe.set(keys.NOTICES, msgspec.json.encode(after))
            return after

        updated: Document = self._connection.transaction(
            run, keys.NOTICES, keys.NOTICES_SENDER, value_from_callable=True
        )
        return updated

    def _has_lease(self, connection: Any) -> bool:
        return bool(connection.get(keys.NOTICES_SENDER) == self._name.encode())


class _StoredDocument(Struct):
    conditions: dict[str, msgspec.Raw] = msgspec.field(default_factory=dict)
    unsent: tuple[msgspec.Raw, ...] = ()


def _parse(text: bytes | None) -> Document:
    """Return the document without the entries that cannot be read, such as a condition of another release."""
    try:
        stored = msgspec.json.decode(text or b"{}", type=_StoredDocument)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return Document()
    conditions = {key: _parse_entry(raw, ConditionState) for key, raw in stored.conditions.items()}
    unsent = [_parse_entry(raw, UnsentNotice) for raw in stored.unsent]
    return Document(
        {key: state for key, state in conditions.items() if state is not None},
        tuple(one for one in unsent if one is not None),
    )


def _parse_entry(raw: msgspec.Raw, kind: type[T]) -> T | None:
    try:
        return msgspec.json.decode(raw, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
