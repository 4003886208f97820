"""Status callbacks of any number, each with message ids of its own: as they are, and as a template for generators.

Three reports make 615 bytes. A fixed body would flatter whatever compresses, and would be a duplicate at once.
"""

from typing import Final

import msgspec

from callbacks.simulator.payloads import Report, StatusBody

REPORTS: Final = 3
NUMBER_DIGITS: Final = 11
# Stands in a template where the callback's number belongs, at its width, so that every body has the same length.
NUMBER_MARK: Final = "@" * NUMBER_DIGITS

_encode = msgspec.json.Encoder().encode


def body(number: int, *, reports: int = REPORTS) -> bytes:
    """Return the body of callback `number`, below 10^11, with up to 10,000 reports."""
    return _body(f"{number:0{NUMBER_DIGITS}d}", reports)


def template(*, reports: int = REPORTS) -> bytes:
    """Return a body with NUMBER_MARK in place of its number."""
    return _body(NUMBER_MARK, reports)


def number_of(message_id: str) -> int:
    """Return the number of the callback with this message id."""
    return int(message_id[5 : 5 + NUMBER_DIGITS])


def _body(digits: str, reports: int) -> bytes:
    records = tuple(
        Report(
            channel="SMS",
            message_id=f"14466{digits}{record:04d}",
            status="DELIVRD",
            timestamp=1_443_165_174,
            micro_timestamp=1_443_165_174_145,
            recipient="385981234567",
            sender="Fortytwo",
            error_code=0,
        )
        for record in range(reports)
    )
    return _encode(StatusBody(api_job_id="47efb16b-b9a0-4dea-8ae1-d3cd9e4f5a4c", client_job_id="", data=records))
