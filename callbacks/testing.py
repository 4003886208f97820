"""For tests of handlers: a worker without a queue, and checks that each handler should pass.

    from callbacks.testing import Conformance, Result, Worker

The pytest plugin is active as soon as the package is installed. Its fixtures: `callbacks_report` and `callbacks_reply`
make events, `callbacks_event` is each of the samples in turn, `callbacks_deliver` and `callbacks_worker` deliver events
to a handler as a worker does.
"""

from workers.testing.conformance import Conformance
from workers.testing.worker import OutcomeName, Result, Worker

__all__ = ["Conformance", "OutcomeName", "Result", "Worker"]
