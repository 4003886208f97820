"""The page of one dead letter: its error in full, its event and message, its trace, and each attempt to deliver it.

Numbers and texts are masked. A user who may act can ask for them whole, which the action log records.
"""

from collections.abc import Sequence
from typing import Final

import msgspec
import redis
from msgspec import Struct
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from callbacks.ops.access.sessions import may_act, operator
from callbacks.ops.html.forms import field
from callbacks.ops.html.renderer import NO_RIGHT, render_notice, render_page
from callbacks.ops.pages.dead_letter_labels import BASE, named_list
from callbacks.ops.pages.failure_pages import SHOWN_CHARACTERS, download, is_failure_id, render_not_found
from shared.events import to_unix_ms
from workers.admin import delivery_history
from workers.admin.number_views import NumberViews
from workers.failures.event_summary import summarize
from workers.failures.failure import DeadLetter, DeadLetterSummary, FailureNotFound
from workers.failures.failure_list import FailureList
from workers.failures.store import FailureStore
from workers.handlers.mask import mask_event

_ONE: Final = f"{BASE}/{{handler}}/{{failure_id}}"


class _Shown(Struct, frozen=True, kw_only=True):
    """What the page shows of a dead letter, masked or whole. `event` is its JSON; what cannot be read, as stored."""

    error: str
    traceback: str
    event: str


def routes(client: redis.Redis, number_views: NumberViews) -> list[Route]:
    """Return the page's routes."""
    store = FailureStore(client)

    def show(request: Request) -> Response:
        is_whole = request.method == "POST" and field(request, "numbers") == "full"
        if is_whole and not may_act(request):
            return render_notice(request, 403, "Whole numbers are not shown", NO_RIGHT)
        failure_list, labels = named_list(client, request)
        try:
            letter = _read(store, failure_list, request.path_params["failure_id"])
        except FailureNotFound as exc:
            return render_not_found(request, exc, labels)
        if is_whole:
            record_view(request, failure_list)
        return render_page(
            request,
            "dead_letter.html",
            masked=not is_whole,
            labels=labels,
            failure=letter,
            summary=summarize(letter.event) if isinstance(letter, DeadLetter) else None,
            trace_id=letter.trace_id if isinstance(letter, DeadLetter) else "",
            attempts=delivery_history.read_attempts(
                client, letter.id, letter.handler, received_ms=_received_ms(letter)
            ),
            shown=_shown(store, letter, is_whole=is_whole),
            most=SHOWN_CHARACTERS,
        )

    def event(request: Request) -> Response:
        failure_list, labels = named_list(client, request)
        try:
            letter = _read(store, failure_list, request.path_params["failure_id"])
        except FailureNotFound as exc:
            return render_not_found(request, exc, labels)
        if may_act(request):
            record_view(request, failure_list)
        text = _shown(store, letter, is_whole=may_act(request)).event
        return download(f"{failure_list.handler}-{letter.id}", text.encode(errors="replace"))

    def record_view(request: Request, failure_list: FailureList) -> None:
        number_views.record(who=operator(request), by="page", where=failure_list.name, count=1)

    return [Route(_ONE, show, methods=["GET", "POST"]), Route(f"{_ONE}/event", event)]


def _read(store: FailureStore, failure_list: FailureList, failure_id: str) -> DeadLetter | DeadLetterSummary:
    found: Sequence[DeadLetter | DeadLetterSummary] = ()
    if is_failure_id(failure_id):
        found = list(store.read_letters(str(failure_list.handler), [failure_id]))
    if not found:
        raise FailureNotFound
    return found[0]


def _received_ms(letter: DeadLetter | DeadLetterSummary) -> int:
    return to_unix_ms(letter.event.received_at) if isinstance(letter, DeadLetter) else 0


def _shown(store: FailureStore, letter: DeadLetter | DeadLetterSummary, *, is_whole: bool) -> _Shown:
    if not isinstance(letter, DeadLetter):
        # Nothing in it can be masked.
        stored = store.read_stored_event(letter.handler, letter.id) if is_whole else b""
        event = stored.decode(errors="replace") or "It cannot be decoded, and may hold whole numbers."
        return _Shown(error=letter.error, traceback="", event=event)
    text = (letter.event if is_whole else mask_event(letter.event)).to_json()
    return _Shown(
        error=letter.whole_error if is_whole else letter.error,
        traceback=letter.whole_traceback if is_whole else letter.traceback,
        event=msgspec.json.format(text, indent=2),
    )
