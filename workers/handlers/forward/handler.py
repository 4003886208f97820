"""The handlers `forward` and `forward-<name>`: one for each target that the environment describes (see `targets`)."""

import functools
import os

from workers.handlers.forward import targets
from workers.handlers.forward.target_handler import make_handler

# Reads only which events each target gets. Its URL and secrets are read by the workers that run its handler. Handlers
# are found among the values of a module.
globals().update(
    {
        options.name.replace("-", "_"): make_handler(
            options, functools.partial(targets.read_target, os.environ, options.name)
        )
        for options in targets.read_options(os.environ)
    }
)
