"""A process that becomes the COMMAND in its arguments, and ends when the process that started it does (Linux).

The kernel sees to it, however the parent dies. Set here, in the child itself: code that runs between fork and exec is
a danger in a parent that has threads.
"""

import ctypes
import os
import signal
import sys
from typing import Final

_PR_SET_PDEATHSIG: Final = 1


def main() -> None:
    """Replace this process by the command in its arguments."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    os.execvp(sys.argv[1], sys.argv[1:])  # noqa: S606 # a command of this package


if __name__ == "__main__":
    main()
