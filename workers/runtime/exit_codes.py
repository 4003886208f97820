"""The exit codes of a worker process, as its supervisor reads them; 0 is a stop that was asked for."""

from typing import Final

# The cause may pass: the supervisor starts the worker again.
EXIT_FAILURE: Final = 1
# A setting or a module is wrong: the worker is started again, more slowly. If that is so of all workers from the start,
# the supervisor ends with the same code.
EXIT_CONFIGURATION: Final = 2
