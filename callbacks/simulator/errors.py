"""What can stop the simulator. A receiver that fails is no error here: it is what the summary counts.

SimulatorError
├── InvalidOption   wrong usage: correct the value and start again
├── LedgerNotWritten   the run ended, because it could no longer say what it had sent
└── LedgerNotReadable   the file is no ledger, or a line of it is damaged
"""


class SimulatorError(Exception):
    """The simulator cannot go on."""


class InvalidOption(SimulatorError):
    """An option has a value it cannot have."""

    def __init__(self, option: str, value: object, reason: str) -> None:
        super().__init__(f"{option}={value}: {reason}")
        self.option = option
        self.value = value
        self.reason = reason


class LedgerNotWritten(SimulatorError):
    """A line of the ledger could not be written."""


class LedgerNotReadable(SimulatorError):
    """A line of the ledger could not be read."""
