"""The operators' application in this process, and clients of it at any address, as a browser or a program has it."""

import asyncio
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import httpx

from callbacks.ops.app import create_app
from shared import settings

HOST: Final = "http://127.0.0.1"


class OpsClient:
    """One client, with cookies of its own."""

    def __init__(self, runner: asyncio.Runner, client: httpx.AsyncClient) -> None:
        self._runner = runner
        self._client = client

    def get(self, path: str, **headers: str) -> httpx.Response:
        return self.request("GET", path, headers={name.replace("_", "-"): value for name, value in headers.items()})

    def request(self, method: str, path: str, **more: Any) -> httpx.Response:
        return self._runner.run(self._client.request(method, path, **more))

    def submit(self, path: str, *, page: str, **fields: str) -> httpx.Response:
        """Load a page, and send a form with its CSRF token."""
        found = re.search(r'name="csrf" value="([0-9a-f]+)"', self.get(page).text)
        assert found is not None, page
        data = {"csrf": found[1], **fields}
        return self._runner.run(self._client.post(path, data=data, headers={"origin": HOST}))

    def sign_in(self, password: str, name: str = "eva") -> httpx.Response:
        return self.submit("/sign-in", page="/sign-in", name=name, password=password)


class OpsApp:
    """The application; `client` makes a client of it."""

    def __init__(self, runner: asyncio.Runner, app: Any) -> None:
        self._runner = runner
        self._app = app
        self._clients: list[httpx.AsyncClient] = []

    def client(self, *, address: str = "127.0.0.1", **headers: str) -> OpsClient:
        """Return a client that connects from `address`, and sends these headers: `x_user` is x-user."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        transport = httpx.ASGITransport(self._app, client=(address, 50000))
        made = httpx.AsyncClient(transport=transport, base_url=HOST, headers=named)
        self._clients.append(made)
        return OpsClient(self._runner, made)

    def close(self) -> None:
        for client in self._clients:
            self._runner.run(client.aclose())


@contextmanager
def opened(redis_url: str, **environment: str) -> Iterator[OpsApp]:
    """Yield the application with these settings."""
    app = create_app(settings.load({"REDIS_URL": redis_url, **environment}, process="ops", needs=("REDIS_URL",)))
    with asyncio.Runner() as runner:
        lifespan = app.router.lifespan_context(app)
        runner.run(lifespan.__aenter__())
        made = OpsApp(runner, app)
        yield made
        made.close()
        runner.run(lifespan.__aexit__(None, None, None))
