"""What our own server (ingest/protocol.py) offers a request beyond ASGI; no other server offers any of it.

ASGI takes a response in two messages, which become two writes and two packets. It gives a body in messages that may be
long in coming, so each body would need a time limit: with the messages a tenth of the web process's work.
"""

from typing import Final, Protocol

from starlette.types import Scope

# In the state of a request's scope.
CONNECTION: Final = "ingest.connection"


class ServerConnection(Protocol):
    """The connection of a request."""

    def take_body(self, limit_bytes: int) -> bytes | None:
        """Return the body of the request that is being answered, if all of it is there, and within the limit.

        For any other return None: `receive` gives it.
        """

    def send_at_once(self, status_line: bytes, rest: bytes) -> bool:
        """Send a response in one write: its status line, and what follows the server's own header lines.

        Return False if nothing was sent, and the two messages of ASGI must be.
        """


def connection_of(scope: Scope) -> ServerConnection | None:
    """Return the connection of a request; None with another server."""
    connection: ServerConnection | None = scope.get("state", {}).get(CONNECTION)
    return connection
