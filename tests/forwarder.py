"""A TCP forwarder on 127.0.0.1 that can lead new connections elsewhere, and reset the ones that it has."""

import selectors
import socket
import struct
import threading
from contextlib import suppress
from types import TracebackType
from typing import Final, Self

_READ_BYTES: Final = 1 << 16
_TICK_SECONDS: Final = 0.05


class Forwarder:
    """Leads to `target`, a port of 127.0.0.1; a context manager, in a thread of its own.

    Set `target` to lead new connections elsewhere: those that are open stay where they are.
    """

    def __init__(self, target: int) -> None:
        self.target = target
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._accepting = threading.Thread(target=self._accept, name="forwarder")

    def __enter__(self) -> Self:
        self._listener.settimeout(_TICK_SECONDS)
        self._accepting.start()
        return self

    def __exit__(
        self, _type: type[BaseException] | None, _value: BaseException | None, _traceback: TracebackType | None
    ) -> None:
        self._closing.set()
        self._accepting.join()
        self._listener.close()
        self.reset()

    def reset(self) -> int:
        """Reset every connection to its client (RST), as a proxy that restarts does; return how many there were."""
        with self._lock:
            pairs, self._pairs = self._pairs, []
        for client, server in pairs:
            with suppress(OSError):
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            # Shut down rather than closed here: the thread that waits on them closes them.
            with suppress(OSError):
                server.shutdown(socket.SHUT_RDWR)
        return len(pairs)

    def _accept(self) -> None:
        while not self._closing.is_set():
            try:
                client, _ = self._listener.accept()
            except TimeoutError:
                continue
            try:
                server = socket.create_connection(("127.0.0.1", self.target))
            except OSError:
                client.close()
                continue
            with self._lock:
                self._pairs.append((client, server))
            threading.Thread(target=_forward, args=(client, server), daemon=True).start()


def _forward(client: socket.socket, server: socket.socket) -> None:
    """Copy both ways until one side ends; the client's side ends as its linger option says: with RST after `reset`."""
    with client, server, selectors.DefaultSelector() as selector, suppress(OSError):
        selector.register(client, selectors.EVENT_READ, server)
        selector.register(server, selectors.EVENT_READ, client)
        while True:
            for key, _ in selector.select():
                source = client if key.data is server else server
                data = source.recv(_READ_BYTES)
                if not data:
                    return
                key.data.sendall(data)
