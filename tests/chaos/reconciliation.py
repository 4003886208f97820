"""After a disturbed run: is every acknowledged event where it belongs, once, and does the sum come out?"""

from collections import defaultdict
from dataclasses import dataclass, field

from shared import audit, keys
from tests.chaos import recorder
from tests.chaos.scenario import Scenario
from tests.chaos.stages import HANDLER, Stage


@dataclass
class Reconciliation:
    """What is wrong, and what a kill has excused.

    `interrupted` counts calls that a SIGKILL ended, `repeated` events that came again though the recorder was done with
    them: excused for the last one that a killed process had, wrong for any other.
    """

    wrong: list[str] = field(default_factory=list)
    interrupted: int = 0
    repeated: int = 0


def reconcile(scenario: Scenario, stage: Stage) -> Reconciliation:
    """Compare what the recorder saw and what Redis holds with what was acknowledged in this run."""
    found = Reconciliation()
    lines = recorder.read(scenario.recorder_file)
    killed = scenario.passage.killed
    # A process has one event at a time: it says that it has it, then what became of it.
    last = {pid: position for position, (_, pid, what) in enumerate(lines) if what == recorder.HAD}
    said: dict[str, list[tuple[str, bool]]] = defaultdict(list)  # and whether a kill excuses its coming again
    for position, (event, pid, what) in enumerate(lines):
        if what != recorder.HAD:
            continue
        is_last = pid == killed and position == last[pid]
        outcomes = [words[2] for words in lines[position + 1 :] if words[:2] == (event, pid)]
        if outcomes and outcomes[0] != recorder.HAD:
            said[event].append((outcomes[0], is_last))
        elif is_last:
            found.interrupted += 1
        else:
            found.wrong.append(f"{event}: its call never ended, and nobody was killed in it")
    _compare(stage, said, scenario.acknowledged, found)
    _check_totals(scenario, stage, len(said), found)
    return found


def _compare(
    stage: Stage, said: dict[str, list[tuple[str, bool]]], acknowledged: set[str], found: Reconciliation
) -> None:
    for event, expected in stage.expected.items():
        due = list(expected)
        calls = said.get(event, [])
        for number, (outcome, _) in enumerate(calls):
            if due and outcome == due[0]:
                due.pop(0)
            elif number and calls[number - 1] == (outcome, True):
                found.repeated += 1
            else:
                found.wrong.append(f"{event}: doubled, the recorder said {[words for words, _ in calls]}")
                break
        if due and (calls or event in acknowledged):
            found.wrong.append(f"{event}: lost, {due} is missing of {expected}")
    found.wrong.extend(f"{event}: nobody has sent it" for event in said.keys() - stage.expected.keys())


def _check_totals(scenario: Scenario, stage: Stage, events: int, found: Reconciliation) -> None:
    sums = audit.run(scenario.client)
    if not sums.balances or sums.pending:
        found.wrong.append(f"the audit does not come out: {sums.as_json()}")
    dead_letters = scenario.client.zcard(keys.dead(HANDLER))
    if dead_letters != stage.dead_letters:
        found.wrong.append(f"{dead_letters} dead letters")
    if not scenario.client.zcard(keys.QUARANTINE):
        found.wrong.append("the quarantine is empty")
    delivered = sum(handler.delivered + handler.dead for handler in sums.handlers)
    if (sums.unique, delivered) != (events, events):
        found.wrong.append(f"counted: {sums.unique} events, {delivered} delivered; the recorder had {events}")
