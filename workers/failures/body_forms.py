"""What a quarantined body reads as, by the headers that are known of it: without compression, and in UTF-8."""

from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Final

from shared import content_codec
from shared.cooperative import run_to_end
from shared.errors import NotJson

# The limit of plain bytes of a body with gzip: four times what the web process takes by default.
_MAX_PLAIN_BYTES: Final = 64 << 20


def plain_forms(body: bytes, headers: Mapping[str, str]) -> Iterator[bytes]:
    """Yield a body without its compression, and then, if it may be in another charset, that in UTF-8."""
    codings = [
        *content_codec.members(headers.get("content-encoding", "").encode()),
        *content_codec.transfer_codings(headers.get("transfer-encoding", "").encode()),
    ]
    with suppress(NotJson, content_codec.UnsupportedCoding, content_codec.PlainBodyTooLarge):
        body = run_to_end(content_codec.decompress(body, codings, limit_bytes=_MAX_PLAIN_BYTES))
    yield body
    converted = content_codec.to_utf8(body, headers.get("content-type", "").lower().encode(), codings)
    if converted is not None:
        yield converted
