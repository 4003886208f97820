"""Static files, served from memory, each at a URL that changes with its content."""

import functools
import hashlib
from importlib.resources import files
from typing import Final

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

_TYPES: Final = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
_A_YEAR: Final = "public, max-age=31536000, immutable"


@functools.cache
def _files() -> dict[str, tuple[bytes, str]]:
    found = {}
    for file in files("callbacks.ops.html").joinpath("static").iterdir():
        content = file.read_bytes()
        found[file.name] = (content, hashlib.sha256(content).hexdigest()[:12])
    return found


def asset_url(name: str) -> str:
    """Return the URL of a file in callbacks/ops/html/static. Raise KeyError if it does not exist."""
    return f"/static/{name}?v={_files()[name][1]}"


async def serve(request: Request) -> Response:
    """Answer GET /static/{name}; the browser caches it permanently if the URL names this content."""
    name = request.path_params["name"]
    if name not in _files():
        return PlainTextResponse("File not found.\n", 404)
    content, digest = _files()[name]
    kept = _A_YEAR if request.query_params.get("v") == digest else "no-cache"
    return Response(content, media_type=_TYPES[name[name.rindex(".") :]], headers={"cache-control": kept})
