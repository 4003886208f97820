"""Somebody else's server, for `forward` to post to: answers every request with 200 after a while.

`python -m benchmarks.endpoint PORT SECONDS`
"""

import asyncio
import base64
import sys
from functools import partial

from benchmarks.deployment import Deployment, TargetUrl
from callbacks.cli.ports import free_port

_ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"


def start(deployment: Deployment, seconds: float) -> dict[str, str]:
    """Start it, and return the settings with which `forward` posts to it."""
    url = TargetUrl(free_port(), "/events")
    command = [sys.executable, "-m", "benchmarks.endpoint", str(url.port), str(seconds)]
    deployment.serve("the endpoint", command, url)
    return {
        "CALLBACKS_FORWARD_URL": str(url),
        "CALLBACKS_FORWARD_SECRETS": f"whsec_{base64.b64encode(bytes(range(32))).decode()}",
        "CALLBACKS_FORWARD_ALLOW_PRIVATE": "true",
    }


async def main(port: int, seconds: float) -> None:
    """Serve until told to end."""
    server = await asyncio.start_server(partial(_serve, seconds), "127.0.0.1", port, backlog=1024)
    async with server:
        await server.serve_forever()


async def _serve(seconds: float, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            length = head.lower().partition(b"content-length:")[2].split(b"\r\n", 1)[0]
            await reader.readexactly(int(length or 0))
            await asyncio.sleep(seconds)
            writer.write(_ANSWER)
            await writer.drain()
    except (asyncio.IncompleteReadError, ConnectionError):
        pass
    finally:
        writer.close()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), float(sys.argv[2])))
