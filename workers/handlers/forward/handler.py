"""The handlers `forward` and `forward-<name>`: one for each target that the environment describes (see `targets`)."""

import os

from workers.handlers.forward import targets
from workers.handlers.forward.declaring import made

# Read when the module is loaded, so that a wrong value stops the start and not the thousandth event. The handlers are
# found where any are: among the module's own values.
globals().update({target.name.replace("-", "_"): made(target) for target in targets.read(os.environ)})
