"""Signing in to the operators' page without a browser."""

import re

import httpx

from tests.ops.running_service import PASSWORD, Service


def client_of(service: Service) -> httpx.Client:
    """Return a client of the page, with cookies of its own."""
    return httpx.Client(base_url=service.ops_url, timeout=30)


def token(client: httpx.Client, path: str = "/sign-in") -> str:
    """Load a page with a form as a browser does, and give the form's token."""
    found = re.search(r'name="csrf" value="([0-9a-f]+)"', client.get(path).text)
    assert found is not None
    return found[1]


def sign_in(client: httpx.Client, password: str = PASSWORD, name: str = "eva", **more: str) -> httpx.Response:
    """Fill in the form, and send it."""
    return client.post("/sign-in", data={"csrf": token(client), "name": name, "password": password, **more})
