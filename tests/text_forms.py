"""The forms in which a text may stand in a file: as it is, escaped in JSON, in UTF-16, in base64."""

import base64
import json
from collections.abc import Iterator


def forms_of(*texts: str) -> list[bytes]:
    """Return all forms of these texts. That of base64 is what its neighbours cannot change."""
    return [form for text in texts for form in _forms(text)]


def _forms(text: str) -> Iterator[bytes]:
    plain = text.encode()
    yield plain
    yield json.dumps(text)[1:-1].encode()
    yield text.encode("utf-16-le")
    yield text.encode("utf-16-be")
    for shift in range(3):
        encoded = base64.b64encode(bytes(shift) + plain)
        yield encoded[4 if shift else 0 : len(encoded) // 4 * 4 - 4]
