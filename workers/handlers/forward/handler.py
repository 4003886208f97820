"""The handlers `forward` and `forward-<name>`: one for each target that the environment describes (see `targets`)."""

import functools
import os

from workers.handlers.forward import targets
from workers.handlers.forward.declaring import made

# Only what says which events each target gets: where they go, and with what they are signed, its own workers read. The
# handlers are found where any are: among the module's own values.
globals().update(
    {
        wanted.name.replace("-", "_"): made(wanted, functools.partial(targets.one, os.environ, wanted.name))
        for wanted in targets.subscriptions(os.environ)
    }
)
