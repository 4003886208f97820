"""uvicorn's server in the main process, which shows from its event loop that it works (`shared.liveness`)."""

import socket

import uvicorn

from shared.liveness import Liveness


class LiveServer(uvicorn.Server):
    """uvicorn's server. Ready when it listens; alive while its event loop comes round, ten times a second."""

    def __init__(self, config: uvicorn.Config, liveness: Liveness) -> None:
        super().__init__(config)
        self._liveness = liveness

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, then report that the process is ready."""
        await super().startup(sockets)
        if self.started:
            self._liveness.ready()

    async def on_tick(self, counter: int) -> bool:
        """Report that the event loop runs; return whether the server is to stop."""
        self._liveness.beat()
        return await super().on_tick(counter)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Report that the process stops, then drain."""
        self._liveness.stopping()
        await super().shutdown(sockets)
