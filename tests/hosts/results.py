"""What became of each round: a line of JSON each in a file, and the table that is made of them."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

import msgspec

FILE: Final = Path(__file__).with_name("results.jsonl")


class Round(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one round. Callbacks: accepted, discarded by the gateway. The others are events.

    `restarts`: processes of the service that ended by themselves and were started again.
    `doubled_between`: when the events that came again had come before, in seconds since the fault began.
    """

    fault: str
    seed: int
    accepted: int
    discarded: int
    events: int
    lost: int
    doubled: int
    balances: bool
    seconds_to_recover: float
    restarts: int
    doubled_between: tuple[float, float] | None


def line(found: Round) -> str:
    """Return the round as a line of the file."""
    return msgspec.json.encode(found).decode() + "\n"


def append(found: Round) -> None:
    """Write a line at once: several processes may run faults."""
    with FILE.open("a", encoding="utf-8") as file:
        file.write(line(found))


def read() -> list[Round]:
    """Return the rounds of the last `make hosts`."""
    return [msgspec.json.decode(words, type=Round) for words in FILE.read_bytes().splitlines()]


def table(rounds: Iterable[Round], faults: Iterable[str]) -> Iterator[str]:
    """Yield the lines of the table, with a row for each fault that was run, in the order of `faults`."""
    by_fault: dict[str, list[Round]] = {}
    for one in rounds:
        by_fault.setdefault(one.fault, []).append(one)
    yield "| fault | rounds | callbacks accepted | events lost | events doubled | seconds to recover |"
    yield "|---|---|---|---|---|---|"
    for fault in faults:
        if found := by_fault.get(fault):
            seconds = sorted(round(one.seconds_to_recover) for one in found)
            yield (
                f"| {fault} | {len(found)} | {sum(one.accepted for one in found):,} | {sum(one.lost for one in found)} "
                f"| {sum(one.doubled for one in found)} | {seconds[0]} to {seconds[-1]} |"
            )
