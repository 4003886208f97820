"""Targets that refuse: everything for a while, or some events always."""

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass

from tests.integration.forward.services import Answer, Request, Service, says


def message_id(request: Request) -> str:
    """Return which event a request brings."""
    found: str = json.loads(request.body)["data"]["message_id"]
    return found


def message_ids(service: Service) -> list[str]:
    """Return which events a service has seen, in their order."""
    return [message_id(request) for request in service.requests]


@dataclass
class Mood:
    """What a target refuses with `status` now: everything while it `is_down`, and always what is `bad`."""

    is_down: bool = False
    bad: Callable[[str], bool] = lambda _message_id: False
    status: int = 404

    def answer(self) -> Answer:
        """Return how it answers."""

        async def answer(request: Request, writer: asyncio.StreamWriter) -> None:
            refuses = self.is_down or self.bad(message_id(request))
            await (says(self.status, b"no such thing") if refuses else says(200))(request, writer)

        return answer
