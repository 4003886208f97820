"""What `callbacks check` says of the keys that seal what waits: their ids, as errors and stored data name them."""

from collections.abc import Iterator

from callbacks.cli.checks.result import CheckResult
from shared.settings import Settings


def check_seal_keys(loaded: Settings) -> Iterator[CheckResult]:
    """Yield which key seals and which only open, if there are any."""
    if loaded.seal_keys:
        newest, *older = (key.id.hex() for key in loaded.seal_keys)
        opens = f"; it opens what is sealed with {' and '.join(older)} too" if older else ""
        yield CheckResult("ok", f"what waits is sealed with key {newest}{opens}")
