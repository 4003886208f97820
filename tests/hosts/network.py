"""Hosts on one switch: a network namespace each, joined by veth pairs and a bridge, and cuts between them.

What is cut is dropped at the switch: no RST, no ICMP, and both ends see their link up. Nothing leaves the namespaces.
"""

import subprocess
import sys
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from types import TracebackType
from typing import Final, Self

from callbacks.cli.child_processes import tied_to_parent
from tests.hosts.namespaces import Namespace

_NETWORK: Final = "10.203.7"
_TABLE: Final = "bridge cuts"
_CHAIN: Final = f"{_TABLE} forward"


class Network:
    """A switch with hosts, by name; a context manager that ends what still runs on them."""

    def __init__(self, names: Iterable[str]) -> None:
        self._stack = ExitStack()
        self._switch = Namespace("switch")
        self.hosts = {name: Namespace(name) for name in names}
        self._addresses = {name: f"{_NETWORK}.{number}" for number, name in enumerate(self.hosts, start=2)}

    def __enter__(self) -> Self:
        try:
            for namespace in (self._switch, *self.hosts.values()):
                self._stack.enter_context(namespace)
            with self._switch.entered():
                _run("ip", "link", "add", "br0", "type", "bridge")
                _run("ip", "link", "set", "dev", "br0", "up")
                _run("nft", f"add table {_TABLE}; add chain {_CHAIN} {{ type filter hook forward priority 0; }}")
                for name, namespace in self.hosts.items():
                    _plug_in(name, namespace)
            for name, namespace in self.hosts.items():
                with namespace.entered():
                    _run("ip", "link", "set", "dev", "lo", "up")
                    _run("ip", "address", "add", f"{self._addresses[name]}/24", "dev", "eth0")
                    _run("ip", "link", "set", "dev", "eth0", "up")
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(
        self, _type: type[BaseException] | None, _value: BaseException | None, _traceback: TracebackType | None
    ) -> None:
        self._stack.close()

    def address(self, name: str) -> str:
        """Return the address of the host."""
        return self._addresses[name]

    def cut(self, one: Iterable[str], others: Iterable[str], *, back: bool = True) -> None:
        """Drop what each of `one` sends to any of `others`; with `back`, what these send to it too."""
        rules = [(sender, receiver) for sender in one for receiver in others if sender != receiver]
        if back:
            rules += [(receiver, sender) for sender, receiver in rules]
        with self._switch.entered():
            _run("nft", "; ".join(f"add rule {_CHAIN} iifname {sender} oifname {to} drop" for sender, to in rules))

    def cut_off(self, name: str) -> None:
        """Drop all that the host sends and all that is sent to it."""
        self.cut([name], self.hosts)

    def restore(self) -> None:
        """Drop nothing any more."""
        with self._switch.entered():
            _run("nft", f"flush chain {_CHAIN}")

    @contextmanager
    def slow(self, name: str, *, delay_ms: int, loss_percent: int) -> Iterator[None]:
        """Delay each packet to and from the host by `delay_ms`, and lose `loss_percent` of them, until the block ends.

        The kernels of many machines have no netem: a process between the host's port and the switch does the same.
        """
        command = [sys.executable, "-m", "tests.hosts.slow_link", name, "detour", str(delay_ms), str(loss_percent)]
        with self._switch.entered():
            _run("ip", "link", "add", "name", "detour", "type", "veth", "peer", "name", "detour-end")
            _run("ip", "link", "set", "dev", "detour", "up")
            _run("ip", "link", "set", "dev", "detour-end", "up", "master", "br0")
            _run("ip", "link", "set", "dev", name, "nomaster")
            process = subprocess.Popen(tied_to_parent(command), start_new_session=True)
        try:
            yield
            assert process.poll() is None, "the slow link has ended by itself"
        finally:
            process.kill()
            process.wait()
            with self._switch.entered():
                _run("ip", "link", "set", "dev", name, "master", "br0")
                _run("ip", "link", "del", "detour")


def _plug_in(name: str, namespace: Namespace) -> None:
    """Join the host's eth0 to a port of the switch that has the host's name. This thread must be at the switch."""
    _run("ip", "link", "add", "name", name, "type", "veth", "peer", "name", "eth0", "netns", namespace.paths[0])
    _run("ip", "link", "set", "dev", name, "master", "br0", "up")


def _run(*command: str) -> None:
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip()}")
