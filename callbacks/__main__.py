"""`python -m callbacks …` does the same as `callbacks …`."""

import os
import sys

from callbacks import launcher

os.execv(sys.executable, launcher.command("callbacks.launcher", *sys.argv[1:]))  # noqa: S606 # this very program
