"""The sealed form of 0.1.0: what that release sealed opens with every later one, so these bytes are never made anew."""

from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from shared import sealed_data
from shared.seal_keys import parse_seal_keys

KEY: Final = bytes(range(32)).hex()
TEXT: Final = b'["report"]'
# Mark, size, id of the key, salt and number, then the ciphertext with its tag.
SEALED: Final = {
    "callbacks": (
        "ff01 0000001a f1dd158c 959c668a66622655448939bf 00000000",
        "2671d2803101cc05a3f049758b172aff18bf5e933df6d027df94",
    ),
    "events": (
        "ff01 0000001a f1dd158c 959c668a66622655448939bf 00000001",
        "bcac34e26ca4fb4ac0f8ee7af919fbbbf5047aa4a75387bfd1dd",
    ),
    "spool": (
        "ff01 0000001a f1dd158c 959c668a66622655448939bf 00000002",
        "9334922737971b621dcb5f5084eafe02873cff45fb75244435cb",
    ),
    "cb:dead:crm:error": (
        "ff01 0000001a f1dd158c 959c668a66622655448939bf 00000003",
        "f2e6c0c6ea6b08d03d4757e11cd1536c4ca8fbcbe23a34048a3a",
    ),
}


@pytest.fixture(autouse=True)
def keys(tmp_path: Path) -> Iterator[None]:
    file = tmp_path / "keys"
    file.write_text(f"{KEY}\n")
    sealed_data.use(parse_seal_keys(str(file)))
    yield
    sealed_data.use([])


@pytest.mark.parametrize("context", SEALED)
def test_what_the_first_release_sealed_opens(context: str) -> None:
    sealed = bytes.fromhex("".join(SEALED[context]))

    assert sealed_data.unseal_whole(sealed, context) == TEXT
    assert sealed_data.unseal(b"[" + sealed + b"]", context) == b"[" + TEXT + b"]"


def test_the_contexts_keep_their_names() -> None:
    assert {sealed_data.CALLBACKS, sealed_data.EVENTS, sealed_data.SPOOL} <= SEALED.keys()
