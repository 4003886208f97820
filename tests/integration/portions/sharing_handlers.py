"""Handlers that want the same events, or some of them, and what tests do and find with portions."""

from collections import Counter
from collections.abc import Callable

from callbacks import ReportEvent, handler
from shared import keys
from tests.integration.harness import Harness, due_now, record, status

Function = Callable[[ReportEvent], None]

STATUSES = ("DELIVRD", "SEEN", "UNDELIV")
# What the handlers want, in turn: all of it, a part, another part, and what no other wants.
WANTED = (set(STATUSES), {"DELIVRD"}, {"SEEN", "UNDELIV"}, {"SEEN"}, {"EXPIRED"})

called: Counter[tuple[str, str]] = Counter()
failing: set[tuple[str, str]] = set()


def handler_number(number: int) -> Function:
    @handler(ReportEvent, name=f"h{number}", statuses=WANTED[number % len(WANTED)], attempts=3)
    def taker(event: ReportEvent) -> None:
        called[f"h{number}", event.message_id] += 1
        if (f"h{number}", event.message_id) in failing:
            raise RuntimeError("not today")

    return taker


HANDLERS = tuple(handler_number(number) for number in range(12))
first, second = both = (HANDLERS[0], HANDLERS[5])


def accept_and_expand(harness: Harness, *message_ids: str) -> None:
    harness.accept(status(*(record(message_id) for message_id in message_ids)))
    harness.expand()


def portions(harness: Harness) -> dict[bytes, int]:
    """Return how many jobs need each portion."""
    assert set(harness.connection.hkeys(keys.PORTIONS)) == set(harness.connection.hkeys(keys.PORTION_JOBS))
    return {name: int(jobs) for name, jobs in harness.connection.hgetall(keys.PORTION_JOBS).items()}


def work(harness: Harness, function: Function, *, rounds: int = 8) -> None:
    """Deliver, and promote what is scheduled, until nothing is left to do."""
    for _ in range(rounds):
        harness.deliver(function)
        due_now(harness, function)
