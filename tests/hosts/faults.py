"""The faults, as one table: what is done to the hosts, for how long, and what may be doubled by it."""

import random
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Final, TypeAlias

from tests.hosts.stack import PROXY, REDIS, SENTINELS, WEB, WORKERS, Stack

# Begins the fault, and ends it at the end of the block.
Break: TypeAlias = Callable[[Stack, random.Random], AbstractContextManager[None]]

_DELAY_MS: Final = 100
_LOSS_PERCENT: Final = 5
# Another host takes over a job: what was in flight, or finished in the last quarter of a second, comes again.
_TAKEOVER_SECONDS: Final = 1.0
# Redis loses its last moment: the old primary takes writes until it has missed its replica for two seconds.
_FAILOVER_SECONDS: Final = 5.0
CLOCKS: Final = {"web2": 30, "worker1": 30, "worker2": -30}


@dataclass(frozen=True)
class Fault:
    """What is done, in the words of docs/guarantees.md; for how long; whether a host has a clock of its own.

    `repeats_until`: an event may come again, by an exception of docs/guarantees.md, if it had come before that many
    seconds after the fault began; None if none applies, so that nothing may be doubled.
    """

    name: str
    seconds: float
    begin: Break
    repeats_until: float | None = None
    own_clocks: tuple[str, ...] = ()


@contextmanager
def _cut(stack: Stack, one: str, others: tuple[str, ...], *, back: bool = True) -> Iterator[None]:
    stack.network.cut([one], others, back=back)
    yield
    stack.network.restore()


def _cut_off(choose: Callable[[Stack, random.Random], str]) -> Break:
    @contextmanager
    def begin(stack: Stack, chance: random.Random) -> Iterator[None]:
        stack.network.cut_off(choose(stack, chance))
        yield
        stack.network.restore()

    return begin


def _one_of(names: tuple[str, ...]) -> Callable[[Stack, random.Random], str]:
    return lambda _stack, chance: chance.choice(names)


def _cut_primary_from_its_own(stack: Stack, _chance: random.Random) -> AbstractContextManager[None]:
    return _cut(stack, stack.primary(), (stack.replica(), *SENTINELS))


def _cut_web_from_redis(stack: Stack, chance: random.Random) -> AbstractContextManager[None]:
    return _cut(stack, chance.choice(WEB), REDIS)


def _drop_what_goes(sender: tuple[str, ...], receiver: tuple[str, ...]) -> Break:
    def begin(stack: Stack, chance: random.Random) -> AbstractContextManager[None]:
        one = chance.choice(sender)
        return _cut(stack, one, receiver, back=False)

    return begin


def _drop_replies(receiver: tuple[str, ...]) -> Break:
    @contextmanager
    def begin(stack: Stack, chance: random.Random) -> Iterator[None]:
        stack.network.cut(REDIS, [chance.choice(receiver)], back=False)
        yield
        stack.network.restore()

    return begin


def _slow(choose: Callable[[Stack, random.Random], str]) -> Break:
    def begin(stack: Stack, chance: random.Random) -> AbstractContextManager[None]:
        return stack.network.slow(choose(stack, chance), delay_ms=_DELAY_MS, loss_percent=_LOSS_PERCENT)

    return begin


@contextmanager
def _freeze_worker(stack: Stack, chance: random.Random) -> Iterator[None]:
    host = stack.hosts[chance.choice(WORKERS)]
    host.freeze()
    yield
    host.thaw()


@contextmanager
def _set_clocks(stack: Stack, _chance: random.Random) -> Iterator[None]:
    clocks = {name: stack.hosts[name].clock for name in CLOCKS}
    for name, clock in clocks.items():
        assert clock is not None
        clock.set(CLOCKS[name])
    yield
    for clock in clocks.values():
        assert clock is not None
        clock.set(0)


_PRIMARY: Final = lambda stack, _chance: stack.primary()  # noqa: E731
_REPLICA: Final = lambda stack, _chance: stack.replica()  # noqa: E731

FAULTS: Final = (
    *(
        Fault(f"{what} cut off for {seconds} s", seconds, _cut_off(choose), repeats_until)
        for what, choose, repeats_until in (
            ("a web host", _one_of(WEB), None),
            ("a worker host", _one_of(WORKERS), _TAKEOVER_SECONDS),
            ("the primary", _PRIMARY, _FAILOVER_SECONDS),
            ("the replica", _REPLICA, None),
        )
        for seconds in (5, 30, 90)
    ),
    Fault("HAProxy cut off for 30 s", 30, _cut_off(_one_of((PROXY,)))),
    Fault("a Sentinel cut off for 30 s", 30, _cut_off(_one_of(SENTINELS))),
    Fault(
        "the primary cut from its replica and Sentinels only, 30 s", 30, _cut_primary_from_its_own, _FAILOVER_SECONDS
    ),
    Fault("a web host cut from Redis only, 30 s", 30, _cut_web_from_redis),
    Fault("what a web host sends to Redis is lost, 30 s", 30, _drop_what_goes(WEB, REDIS)),
    Fault("what Redis sends to a web host is lost, 30 s", 30, _drop_replies(WEB)),
    Fault("what Redis sends to a worker host is lost, 30 s", 30, _drop_replies(WORKERS), _TAKEOVER_SECONDS),
    Fault("100 ms and 5 % loss at a web host, 30 s", 30, _slow(_one_of(WEB))),
    Fault("100 ms and 5 % loss at a worker host, 30 s", 30, _slow(_one_of(WORKERS))),
    Fault("100 ms and 5 % loss at the primary, 30 s", 30, _slow(_PRIMARY)),
    Fault("a worker host frozen for 60 s", 60, _freeze_worker, _TAKEOVER_SECONDS),
    Fault(
        "clocks of a web and a worker host 30 s ahead, of the other worker host 30 s behind, 60 s",
        60,
        _set_clocks,
        own_clocks=tuple(CLOCKS),
    ),
)
# That of `make test`.
SHORTEST: Final = FAULTS[0]
