"""How a worker process ends, as its supervisor hears it; 0 is a stop that was asked for."""

from typing import Final

# What was wrong may pass: the supervisor starts it again.
EXIT_FAILURE: Final = 1
# A setting or a module is wrong: it is started again more slowly. If that is so everywhere from the start, the
# supervisor stops, with the same code.
EXIT_CONFIGURATION: Final = 2
