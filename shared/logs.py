"""How the service's own log looks: one line per happening, `action=…` first, to standard error.

Operators search for actions; each is a constant in the code. No line carries a token, a text or a whole number
of a person (I9), so nothing here formats events.
"""

import logging
import os
import sys
from typing import Final

_FORMAT: Final = "%(asctime)s %(levelname)s %(name)s[%(process)d] %(message)s"


def configure() -> None:
    """Send this process's log to standard error, at the level that CALLBACKS_LOG_LEVEL names (default INFO).

    Called before the settings are read, so that what is wrong with them can be logged; a level that is none is
    their error to report.
    """
    level = logging.getLevelNamesMapping().get(os.environ.get("CALLBACKS_LOG_LEVEL", ""), logging.INFO)
    handler = logging.StreamHandler(sys.stderr)
    formatter = logging.Formatter(_FORMAT)
    formatter.default_time_format, formatter.default_msec_format = "%Y-%m-%dT%H:%M:%S", "%s.%03d"
    handler.setFormatter(formatter)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger("callbacks").setLevel(level)
