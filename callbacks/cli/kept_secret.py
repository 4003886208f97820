"""A random secret in a file, the same for each start."""

import secrets
from pathlib import Path


def read(file: Path) -> str:
    """Return the secret of the file; the first call creates it, readable only by its owner."""
    file.touch(mode=0o600)
    kept = file.read_text().strip()
    if not kept:  # new, or its first writer was killed
        kept = secrets.token_urlsafe(24)
        file.write_text(kept)
    return kept
