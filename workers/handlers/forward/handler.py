"""The handlers `forward` and `forward-<name>`: one for each target that the environment describes (see `targets`)."""

import functools
import os

from workers.handlers.forward import targets
from workers.handlers.forward.target_handler import make_handler

# Only what says which events each target gets: where they go, and with what they are signed, its own workers read. The
# handlers are found where any are: among the module's own values.
globals().update(
    {
        options.name.replace("-", "_"): make_handler(
            options, functools.partial(targets.read_target, os.environ, options.name)
        )
        for options in targets.read_options(os.environ)
    }
)
