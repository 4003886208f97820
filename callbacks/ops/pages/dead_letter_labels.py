"""The dead letters that a path names: the list of a handler, and the words for it on its pages."""

from typing import Final
from urllib.parse import quote

import redis
from starlette.exceptions import HTTPException
from starlette.requests import Request

from callbacks.ops.pages.failure_pages import ListLabels
from workers.failures.failure_list import FailureList, dead_letters_of, handler_names

BASE: Final = "/dead-letters"


def named_list(client: redis.Redis, request: Request) -> tuple[FailureList, ListLabels]:
    """Return the failure list of the handler in the path, and its labels. Raise 404 for an unknown handler."""
    handler = request.path_params["handler"]
    if handler not in handler_names(client):
        raise HTTPException(404)
    labels = ListLabels(
        path=f"{BASE}/{quote(handler, safe='')}",
        title=f"Dead letters of {handler}",
        singular=f"dead letter of {handler}",
        plural=f"dead letters of {handler}",
    )
    return dead_letters_of(handler), labels
