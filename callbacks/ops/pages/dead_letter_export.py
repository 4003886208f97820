"""Downloads dead letters as JSON lines or CSV, streamed: those that a filter matches, or those that were selected.

Numbers and texts are masked. A user who may act can ask for whole ones by a form, which the action log records first.
"""

from collections.abc import Iterable, Iterator
from typing import Final

import redis
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from callbacks.ops.access.sessions import operator
from callbacks.ops.html.forms import field
from callbacks.ops.pages.failure_pages import parse_filter, parse_form_filter, parse_ids, plain_name
from workers.admin import action_log, dead_letter_export
from workers.admin.action_log import Action, ActionLog, ActionProgress, ActionState
from workers.failures import iteration
from workers.failures.failure import DeadLetter, DeadLetterSummary
from workers.failures.failure_list import FailureList

_MEDIA_TYPES: Final = {"jsonl": "application/x-ndjson", "csv": "text/csv; charset=utf-8"}
# A hop to a thread for each line would take longer than the line.
_PART_CHARACTERS: Final = 64 << 10


def respond(client: redis.Redis, request: Request, failure_list: FailureList) -> Response:
    """Return the download that a query or a form asks for. Raise 404 for an unknown extension, 400 for a wrong filter.

    Only those who may act can send a form.
    """
    extension, handler = request.path_params["extension"], str(failure_list.handler)
    if extension not in _MEDIA_TYPES:
        raise HTTPException(404)
    is_form = request.method == "POST"
    ids = parse_ids(request) if is_form else ()
    wanted = parse_form_filter(request, failure_list) if is_form else parse_filter(request.query_params, failure_list)
    is_full = is_form and field(request, "numbers") == "full"
    letters = iteration.iterate_letters(client, handler, wanted, ids=ids)
    if is_full:
        chosen = action_log.describe_selection(ids, wanted)
        action = Action(who=operator(request), by="page", what="export", where=failure_list.name, chosen=chosen)
        log = ActionLog(client)
        letters = _count(log, log.start(action), action, letters)
    lines = dead_letter_export.iterate_lines(letters, as_csv=extension == "csv", is_full=is_full)
    return StreamingResponse(
        encode_lines(lines),
        media_type=_MEDIA_TYPES[extension],
        headers={"content-disposition": f'attachment; filename="dead_letters_{plain_name(handler)}.{extension}"'},
    )


def _count(
    log: ActionLog, action_id: str, action: Action, letters: Iterable[DeadLetter | DeadLetterSummary]
) -> Iterator[DeadLetter | DeadLetterSummary]:
    """Yield the dead letters of an export whose start is recorded; record how many were sent, and how it ended."""
    progress = ActionProgress()
    state: ActionState = "stopped"
    try:
        for letter in letters:
            yield letter
            progress.done += 1
        state = "done"
    finally:
        log.end(action_id, action, progress, state=state)


def encode_lines(lines: Iterable[str]) -> Iterator[bytes]:
    """Yield the lines encoded, some 64 KiB at a time."""
    part: list[str] = []
    characters = 0
    for line in lines:
        part.append(line)
        characters += len(line)
        if characters >= _PART_CHARACTERS:
            yield "".join(part).encode(errors="replace")
            part, characters = [], 0
    yield "".join(part).encode(errors="replace")
