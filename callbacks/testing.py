"""For tests of handlers: a worker without a queue, and checks that every handler should pass.

    from callbacks.testing import Conformance, Result, Worker

The pytest plugin is there as soon as the package is installed, with these fixtures: `callbacks_report` and
`callbacks_reply` make events, `callbacks_event` is each of the samples in turn, `callbacks_deliver` and
`callbacks_worker` hand events to a handler as a worker would.
"""

from workers.testing.conformance import Conformance
from workers.testing.worker import Result, Verdict, Worker

__all__ = ["Conformance", "Result", "Verdict", "Worker"]
