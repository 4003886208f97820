"""The journey of a few callbacks, cut into stages: in each, one part of the service talks to Redis through the proxy.

All others have connections of their own, so that each stage ends with everything done that was accepted.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

import orjson

from shared import batches, events, keys
from shared.batches import Quarantined
from tests import commit_pipeline
from tests.chaos import recorder
from tests.chaos.scenario import Callback, Scenario, State
from tests.integration.harness import record

HANDLER: Final = "recorder"


def _status(*records: tuple[str, str]) -> Callback:
    """Return a status callback with a report for each (message, order to the recorder)."""
    body = {"data": [record(message, client_message_id=order) for message, order in records]}
    ids = tuple(
        events.report_id("gateway", message, "VIBER", "DELIVRD", "35699000001", 1443165176020, 0)
        for message, _ in records
    )
    return Callback("status", orjson.dumps(body), ids)


def _reply(reply_message_id: str, req_uuid: str) -> Callback:
    body = {"reply_message_id": reply_message_id, "req_uuid": req_uuid, "channel": "VIBER", "message": {"text": "yes"}}
    return Callback("reply", orjson.dumps(body), (events.reply_id("gateway", reply_message_id),))


CALLBACKS: Final = (
    _status(("1", ""), ("2", ""), ("3", "retry")),
    _reply("reply-1", "request-1"),
    _status(("4", "dead"), ("5", ""), ("6", "")),
    Callback("status", b'{"data":"nothing that is documented"}'),
    _reply("reply-1", "request-2"),
    _status(("7", "")),
)
# What an earlier release could not read, and this one can.
_READABLE_NOW: Final = _status(("8", ""), ("9", ""))
RETRY: Final = CALLBACKS[0].events[2]
DEAD: Final = CALLBACKS[2].events[0]


@dataclass(frozen=True, eq=False)
class Stage:
    """What it begins with, what users and platforms do in it, what the recorder is to say of each event, in order."""

    name: str
    begins_with: State
    drive: Callable[[Scenario], None]
    expected: Mapping[str, tuple[str, ...]]
    dead_letters: int = 0


def stages(scenario: Scenario) -> tuple[Stage, ...]:
    """Return the stages, with the states that they begin with: made by going all the way once, undisturbed."""
    scenario.begin(State())
    scenario.start("web")
    for callback in CALLBACKS:
        scenario.post(callback)
    scenario.end()
    posted = scenario.state()
    scenario.begin(posted)
    scenario.start("expand")
    scenario.until(scenario.all_expanded, "all is expanded")
    scenario.end()
    expanded = scenario.state()
    scenario.begin(expanded)
    scenario.obey(recorder.RETRY, recorder.DEAD)
    scenario.start("deliver")
    scenario.rest()
    scenario.end()
    with scenario.client.pipeline() as pipe:
        body = _READABLE_NOW.body
        entry = Quarantined(kind="status", source="gateway", received_ms=batches.now_ms(), error="", body=body)
        commit_pipeline.add(pipe, (), [entry])
        pipe.execute()
    delivered = scenario.state()
    smooth = {event: ("done",) for callback in CALLBACKS for event in callback.events}
    rough = smooth | {RETRY: ("retry", "done"), DEAD: ("dead",)}
    with_replayed = rough | dict.fromkeys(_READABLE_NOW.events, ("done",))
    return (
        Stage("commit", State(), _commit, smooth),
        Stage("drain", State(), _drain, smooth),
        Stage("expand", posted, _expand, smooth),
        Stage("deliver", expanded, _deliver, rough, dead_letters=1),
        Stage("dead replay", delivered, _replay_dead, rough | {DEAD: ("dead", "done")}),
        Stage("quarantine replay", delivered, _replay_quarantined, with_replayed, dead_letters=1),
    )


def _commit(scenario: Scenario) -> None:
    scenario.start("web", watched=True)
    scenario.start("expand")
    scenario.start("deliver")
    for callback in CALLBACKS:
        scenario.post(callback)


def _drain(scenario: Scenario) -> None:
    scenario.proxy.refusing = True
    scenario.start("web", watched=True)
    for callback in CALLBACKS:
        scenario.post(callback)
    scenario.start("expand")
    scenario.start("deliver")
    scenario.proxy.refusing = False


def _expand(scenario: Scenario) -> None:
    scenario.start("expand", watched=True)
    scenario.start("deliver")


def _deliver(scenario: Scenario) -> None:
    # RQ looks for what is due by whole seconds, so a retry takes its time: in this stage alone.
    scenario.obey(recorder.RETRY, recorder.DEAD)
    scenario.start("deliver", watched=True)


def _replay_dead(scenario: Scenario) -> None:
    scenario.start("deliver")
    scenario.insist(lambda: scenario.client.zcard(keys.dead(HANDLER)) == 0, "dead", "replay", HANDLER, "--all")


def _replay_quarantined(scenario: Scenario) -> None:
    scenario.start("expand")
    scenario.start("deliver")
    scenario.acknowledged.update(_READABLE_NOW.events)
    # The other entry cannot be read now either, and stays.
    scenario.insist(lambda: scenario.client.zcard(keys.QUARANTINE) == 1, "quarantine", "replay", "--all")
