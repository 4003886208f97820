"""Sealed data: what they hold is not to be seen, opens in its place only, and is never sealed alike twice."""

import base64
import os
import secrets
from collections.abc import Iterator

import pytest

from shared import sealed_data, sealed_part
from shared.seal_keys import SealKey
from shared.sealed_data import Sealed, SealKeyMissing

TEXT = b'["report","356 79","\xc3\xa4\xc3\xbf"]'


def new_key() -> SealKey:
    return SealKey(secrets.token_bytes(4), secrets.token_bytes(32))


OLD, NEW = new_key(), new_key()


@pytest.fixture(autouse=True)
def keys() -> Iterator[None]:
    sealed_data.use([OLD])
    yield
    sealed_data.use([])


def test_a_text_is_not_to_be_seen_and_opens_again() -> None:
    sealed = sealed_data.seal(TEXT, "events")

    assert b"report" not in sealed
    assert len(sealed) == len(TEXT) + sealed_part.OVERHEAD_BYTES
    assert sealed_data.unseal(sealed, "events") == TEXT
    assert sealed_data.unseal_whole(sealed, "events") == TEXT


def test_sealed_parts_stand_in_the_middle_of_a_text() -> None:
    first, second = sealed_data.seal_each([TEXT, b""], "events")

    assert sealed_data.unseal(b"[1,[" + first + b"," + TEXT + b"," + second + b"]]", "events") == (
        b"[1,[" + TEXT + b"," + TEXT + b",]]"
    )


def test_what_is_not_sealed_stays_as_it_is() -> None:
    assert sealed_data.unseal(TEXT, "events") == TEXT
    # A body in UTF-16, and one that begins as a sealed part does.
    for body in ("{}".encode("utf-16"), b"\xff\xfe{\x00", b"\xff\x01", b"\xff\x01" + bytes(60)):
        assert sealed_data.unseal_whole(body, "body") == body
        assert not sealed_data.is_sealed(body)


def test_without_keys_nothing_is_sealed() -> None:
    sealed = sealed_data.seal(TEXT, "events")
    sealed_data.use([])

    assert not sealed_data.is_on()
    assert sealed_data.seal(TEXT, "events") == TEXT
    with pytest.raises(SealKeyMissing, match=f"{OLD.id.hex()}, and CALLBACKS_SEAL_KEYS_FILE is not set"):
        sealed_data.unseal(sealed, "events")


def test_the_first_key_seals_and_each_opens() -> None:
    before = sealed_data.seal(TEXT, "events")
    sealed_data.use([NEW, OLD])
    after = sealed_data.seal(TEXT, "events")

    assert sealed_data.unseal(before + after, "events") == TEXT + TEXT
    sealed_data.use([OLD])
    with pytest.raises(SealKeyMissing, match=f"{NEW.id.hex()}, which is not in CALLBACKS_SEAL_KEYS_FILE"):
        sealed_data.unseal(after, "events")


def test_it_opens_in_its_place_only() -> None:
    sealed = sealed_data.seal(TEXT, "cb:dead:chat:1 event")

    for context in ("cb:dead:chat:2 event", "cb:dead:chat:1 error"):
        with pytest.raises(Sealed, match="moved here from another place"):
            sealed_data.unseal_whole(sealed, context)


@pytest.mark.parametrize("position", [1, 3, 7, 12, 25, 30, -1])
def test_a_changed_byte_is_damage(position: int) -> None:
    sealed = bytearray(sealed_data.seal(TEXT, "events"))
    sealed[position] ^= 1

    with pytest.raises(Sealed):
        sealed_data.unseal(bytes(sealed), "events")


def test_a_part_that_is_cut_off_is_damage() -> None:
    sealed = sealed_data.seal(TEXT, "events")

    for length in range(1, len(sealed)):
        with pytest.raises(Sealed):
            sealed_data.unseal(sealed[:length], "events")


def test_no_salt_and_number_come_twice_not_even_in_a_forked_process() -> None:
    found = sealed_data.seal_each([TEXT] * 100, "events")
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writer, b"\n".join(map(base64.b64encode, sealed_data.seal_each([TEXT] * 10, "events"))))
        os._exit(0)
    os.waitpid(child, 0)
    found += map(base64.b64decode, os.read(reader, 1 << 20).split(b"\n"))
    found += sealed_data.seal_each([TEXT] * 10, "events")
    os.close(reader)
    os.close(writer)

    parts = [sealed_part.unpack(sealed) for sealed in found]

    assert len(parts) == len({(part.cipher_id, part.number) for part in parts}) == 120
    assert sealed_data.unseal(b"".join(found), "events") == TEXT * 120


def test_a_forked_process_that_cannot_draw_a_salt_seals_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    sealed_data.seal(TEXT, "events")
    monkeypatch.setattr("shared.seal_ciphers.os.urandom", fail)
    child = os.fork()
    if child == 0:
        try:
            sealed_data.seal(TEXT, "events")
        except OSError:
            os._exit(0)
        os._exit(1)
    _, status = os.waitpid(child, 0)

    assert status == 0


def fail(_size: int) -> bytes:
    raise OSError("no random bytes")


def test_a_new_salt_comes_after_the_last_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shared.seal_ciphers.MAX_NUMBER", 1)

    parts = [sealed_part.unpack(sealed) for sealed in sealed_data.seal_each([TEXT] * 5, "events")]

    assert [part.number for part in parts] == [0, 1, 0, 1, 0]
    assert len({part.cipher_id for part in parts}) == 3
