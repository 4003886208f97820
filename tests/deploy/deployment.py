"""Where the files for operators stand, and how a callback is posted by hand."""

import json
import ssl
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from tests.acceptance.processes import REPOSITORY

DEPLOY: Final = REPOSITORY / "deploy"
TOKEN: Final = "deployed-token-7c2e"
BUNDLE: Final = (REPOSITORY / "tests" / "payloads" / "status_bundle.json").read_bytes()
UNREADABLE: Final = (REPOSITORY / "tests" / "payloads" / "status_unreadable.json").read_bytes()


def environment(redis_url: str, port: int, folder: Path) -> dict[str, str]:
    """Return what every process of one service is started with."""
    return {
        "REDIS_URL": redis_url,
        "PORT": str(port),
        "CALLBACKS_TOKENS": f"deployed={TOKEN}",
        "CALLBACKS_ALLOWED_IPS": "127.0.0.1",
        "CALLBACKS_LOG_FILE": str(folder / "events.jsonl"),
    }


def post(
    base: str, body: bytes = BUNDLE, *, headers: Mapping[str, str] | None = None, ca: Path | None = None
) -> tuple[int, object]:
    """Post a status callback below `base`; give the status and the JSON of the answer."""
    request = urllib.request.Request(f"{base}/callbacks/{TOKEN}/status", body, {"content-type": "application/json"})
    for name, value in (headers or {}).items():
        request.add_header(name, value)
    tls = ssl.create_default_context(cafile=ca) if ca else None
    try:
        with urllib.request.urlopen(request, timeout=30, context=tls) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as exc:
        with exc:
            return exc.code, json.loads(exc.read() or b"null")
