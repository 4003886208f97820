"""The errors that stop the simulator. A receiver that fails is not an error here; the summary counts its failures.

SimulatorError
├── InvalidOption      wrong usage: correct the value
├── LedgerNotWritten   the run ended, because it could not record what it sent
└── LedgerNotReadable  the file is not a ledger, or a line is damaged
"""


class SimulatorError(Exception):
    """The simulator cannot continue."""


class InvalidOption(SimulatorError):
    """An option has an invalid value."""

    def __init__(self, option: str, value: object, reason: str) -> None:
        super().__init__(f"{option}={value}: {reason}")
        self.option = option
        self.value = value
        self.reason = reason


class LedgerNotWritten(SimulatorError):
    """A line of the ledger could not be written."""


class LedgerNotReadable(SimulatorError):
    """A line of the ledger could not be read."""
