"""The handler `forward`: events as signed CloudEvents to HTTP services of one's own, each service a target by itself.

handler      what the worker loads: a handler for each target
declaring    a target as a handler
targets      which targets there are: CALLBACKS_FORWARD_URL and the variables beside it
options      what each of these variables may be
cloud_event  an event as a CloudEvent
signing      the signature by which a target knows that it is ours
addresses    which addresses may be connected to, and connecting to one that was looked at and to no other
sender       one target: one request, what becomes of the event
lines        its connections: one for each request at a time
turns        requests are written one after the other
rules        what an answer, or none, means for the event and for the target: a table
answers      an answer, or the lack of one, in words and by the rules
refusals     which events a target refuses although it is well
breaker      when a target is in trouble, rather than with one event: how long its queue pauses
"""

from importlib.util import find_spec

for _name in ("httpx", "standardwebhooks"):
    if find_spec(_name) is None:
        raise ModuleNotFoundError(f"{_name} is not installed: pip install 'callbacks[forward]'", name=_name)
