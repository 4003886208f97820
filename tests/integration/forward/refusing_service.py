"""A target that refuses everything for a while, or some events always."""

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass

from tests.integration.forward.services import Answer, Request, Service, says


def message_id(request: Request) -> str:
    """Return the message id in a request."""
    found: str = json.loads(request.body)["data"]["message_id"]
    return found


def message_ids(service: Service) -> list[str]:
    """Return the message ids that a service received, in order."""
    return [message_id(request) for request in service.requests]


@dataclass
class Refusing:
    """What a target refuses with `status`: everything while it `is_down`, and always the events that are `bad`."""

    is_down: bool = False
    bad: Callable[[str], bool] = lambda _message_id: False
    status: int = 404

    def answer(self) -> Answer:
        """Return the answer of the service."""

        async def answer(request: Request, writer: asyncio.StreamWriter) -> None:
            refuses = self.is_down or self.bad(message_id(request))
            await (says(self.status, b"no such thing") if refuses else says(200))(request, writer)

        return answer
