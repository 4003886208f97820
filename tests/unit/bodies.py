"""Status callbacks, byte by byte, and the error of both readers for an unexpected shape."""

import pytest

from shared import wire
from shared.errors import UnexpectedShape
from shared.schema import Kind


def body_with(keys: bytes) -> bytes:
    """Return a status callback whose one record also has `keys`, byte by byte."""
    return b'{"data":[{"message_id":"1","status":"DELIVRD",' + keys + b"}]}"


def check_error(body: bytes, kind: Kind | None = None) -> str:
    with pytest.raises(UnexpectedShape) as error:
        wire.check(body, kind)
    with pytest.raises(UnexpectedShape) as same:
        wire.read(body, kind)
    assert str(error.value) == str(same.value)
    return str(error.value)
