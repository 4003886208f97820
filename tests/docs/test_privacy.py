"""The command that makes a key, in the page on people's data, makes one."""

from pathlib import Path

from shared import settings
from tests.docs.pages import Block, with_blocks
from tests.docs.shell import shell


@with_blocks("docs/privacy.md", "Encryption of what waits")
def test_a_key_is_made_that_only_its_owner_reads(blocks: list[Block], tmp_path: Path) -> None:
    (block,) = blocks

    made = shell(f"cd {tmp_path}\n{block.text}")

    assert made.returncode == 0, made.stderr
    file = tmp_path / "seal_keys"
    assert file.stat().st_mode & 0o077 == 0
    assert len(settings.load({"CALLBACKS_SEAL_KEYS_FILE": str(file)}).seal_keys) == 1
