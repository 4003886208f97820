"""Run the COMMAND in the arguments, and have the kernel end it when the parent process ends, however it dies (Linux).

It is set here, in the child, because code between fork and exec is unsafe in a parent that has threads.
"""

import ctypes
import os
import signal
import sys
from typing import Final

_PR_SET_PDEATHSIG: Final = 1


def main() -> None:
    """Replace this process with the command in its arguments."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    os.execvp(sys.argv[1], sys.argv[1:])  # noqa: S606 # a command of this package


if __name__ == "__main__":
    main()
