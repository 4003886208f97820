"""The handler `forward`: sends events as signed CloudEvents to your own HTTP services, its targets.

handler          what the worker loads: one handler for each target
target_handler   makes the handler of one target
targets          reads the targets from CALLBACKS_FORWARD_URL and the other CALLBACKS_FORWARD_… variables
options          parses the value of each variable
cloud_event      renders an event as a CloudEvent
signature        signs requests, so that a target can verify that they are ours
addresses        which addresses may be connected to; resolves and checks a host before connecting
sender           sends one event to its target and decides what becomes of the event
connection       a kept-alive HTTP connection, used by one request at a time
write_lock       makes concurrent requests go out one after the other
rules            the table: what a response, or none, means for the event and for the target
responses        applies the rules to a response or a network error, and describes it in words
refusals         tells an event that its target always refuses from a target that refuses everything
circuit_breaker  decides when, and for how long, the queue of a failing target pauses
"""

from importlib.util import find_spec

from callbacks.distribution import MissingExtra

for _name in ("httpx", "standardwebhooks"):
    if find_spec(_name) is None:
        raise MissingExtra(_name, module=_name, extra="forward")
