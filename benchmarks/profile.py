"""Where the time goes: `python -m benchmarks.profile` samples the web process under load, and both workers in a drain.

py-spy samples the main thread from outside, 200 times a second, whatever it does; waiting is left out. With
--save each profile is kept as text under benchmarks/profiles/.
"""

import argparse
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from msgspec import Struct

from benchmarks import backlog, machine, wrk
from benchmarks.deployment import DeployedProcess, Deployment, MeasurementFailed
from callbacks.cli import termination

PROFILES: Final = Path(__file__).with_name("profiles")
_SAMPLES_A_SECOND: Final = 200
_MAX_FUNCTIONS: Final = 40
_MAX_STACKS: Final = 25
_WRITE_SECONDS: Final = 60.0
# Other threads wait for a spool, a supervisor's end or RQ's commands, which py-spy does not always take for waiting.
_OTHER_THREADS: Final = "Thread._bootstrap ("
# What stands at the bottom of every stack.
_GROUND: Final = ("click/", "callbacks/cli/", "<frozen", "runpy")


class Profile(Struct, frozen=True):
    """Stacks, outermost frame first, and how often each was met."""

    name: str
    circumstances: str
    stacks: Counter[tuple[str, ...]]

    def lines(self) -> Iterator[str]:
        """Yield the profile as text: by file, by function, by function with its calls, and the most frequent stacks."""
        total = sum(self.stacks.values())
        yield f"{self.name}: {self.circumstances}"
        yield f"{total} samples, {_SAMPLES_A_SECOND} a second; shares of the time in which the process did something"
        own: Counter[str] = Counter()
        files: Counter[str] = Counter()
        inclusive: Counter[str] = Counter()
        for stack, number in self.stacks.items():
            own[stack[-1]] += number
            files[_file(stack[-1])] += number
            for frame in set(stack):
                if not _file(frame).startswith(_GROUND):
                    inclusive[frame] += number
        for title, counted in (
            ("by file", files),
            ("by function, alone", own),
            ("by function, with callees", inclusive),
        ):
            yield f"\n{title}"
            for what, number in counted.most_common(_MAX_FUNCTIONS):
                if number * 200 >= total:  # half a percent
                    yield f"{number / total:7.1%}  {what}"
        yield "\nthe hottest stacks"
        for stack, number in self.stacks.most_common(_MAX_STACKS):
            yield f"{number / total:7.1%}  " + " < ".join(reversed(stack[-8:]))


def main() -> None:
    """Take the three profiles."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.profile", description=__doc__)
    parser.add_argument("--seconds", type=float, default=10.0, help="of load on the web process")
    parser.add_argument("--callbacks", type=int, default=50_000, help="that wait for the workers")
    parser.add_argument("--save", nargs="?", const=PROFILES, type=Path, metavar="FOLDER", help="keep them (profiles/)")
    options = parser.parse_args()
    if why := machine.missing("py-spy"):
        raise SystemExit(why)
    with termination.on_signal():
        location = machine.describe(machine.disk_folder())
        profiles = [acknowledging(options.seconds), *draining(options.callbacks)]
    for profile in profiles:
        text = "\n".join([str(location), *profile.lines()]) + "\n"
        print(text)
        if options.save is not None:
            options.save.mkdir(parents=True, exist_ok=True)
            (options.save / f"{profile.name}.txt").write_text(text)


def acknowledging(seconds: float) -> Profile:
    """Sample the web process while 64 connections load it."""
    with Deployment() as deployment:
        url, web = deployment.web_process()
        wrk.warm_up(url, connections=64)
        spy = _spy(deployment, "acknowledge", web.pid)
        load = wrk.load(url, connections=64, seconds=seconds)
        web.stop()
        return _read(
            deployment, spy, "acknowledge", f"64 connections, {load.rate:,.0f} requests/s while it was watched"
        )


def draining(callbacks: int) -> list[Profile]:
    """Sample one expand and one deliver worker while they drain callbacks committed forty a job."""
    spies: dict[str, DeployedProcess] = {}
    with Deployment() as deployment:

        def watch(expand: DeployedProcess, deliver: DeployedProcess) -> None:
            for name, process in (("expand", expand), ("deliver", deliver)):
                _, worker = process.process_ids()
                spies[name] = _spy(deployment, name, worker)

        backlog.fill(deployment.redis, callbacks, per_job=40)
        seconds = backlog.drain(deployment, on_ready=watch)
        line = (
            f"a drain of {callbacks:,} callbacks in jobs of forty, {callbacks / seconds:,.0f} callbacks/s while watched"
        )
        return [_read(deployment, spy, name, line) for name, spy in spies.items()]


def _spy(deployment: Deployment, name: str, pid: int) -> DeployedProcess:
    command = ["py-spy", "record", "--pid", str(pid), "--format", "raw", "--function", "--duration", "unlimited"]
    spy = deployment.start(
        "py-spy", [*command, "--rate", str(_SAMPLES_A_SECOND), "--output", str(deployment.folder / f"{name}.raw")]
    )
    spy.wait_until(lambda: "Sampling" in spy.output, "its first sample")
    return spy


def _read(deployment: Deployment, spy: DeployedProcess, name: str, circumstances: str) -> Profile:
    spy.process.wait(_WRITE_SECONDS)
    raw = deployment.folder / f"{name}.raw"
    if not raw.exists():
        raise MeasurementFailed(f"py-spy wrote nothing:\n{spy.output[-2000:]}")
    stacks: Counter[tuple[str, ...]] = Counter()
    for line in raw.read_text().splitlines():
        frames, _, number = line.rpartition(" ")
        stack = tuple(frame for frame in frames.split(";") if frame.strip())
        if stack and not any(frame.startswith(_OTHER_THREADS) for frame in stack):
            stacks[stack] += int(number)
    return Profile(name, circumstances, stacks)


def _file(frame: str) -> str:
    return frame.partition("(")[2].rpartition(":")[0] or frame


if __name__ == "__main__":
    main()
