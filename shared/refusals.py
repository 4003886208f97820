"""Why the web process refuses requests: one name for each reason, with its status and what an operator can do.

A refused request with a valid token came from the gateway, or from somebody who knows the callback URL: it is a
callback that may be lost. One without is most often a stranger's, unless a token was removed that the gateway still
uses. Answers, metrics, the recent rate, alerts and pages tell the two apart with these names.
"""

from typing import Final, Literal, TypeAlias

from msgspec import Struct

# What is known of the sender: its token is valid, or it has none that is.
Sender: TypeAlias = Literal["known", "unknown"]
SENDERS: Final[tuple[Sender, ...]] = ("known", "unknown")
# The gateway's three attempts, five minutes apart: a refused callback may still come, or is lost by now.
WINDOW_SECONDS: Final = 600


class Reason(Struct, frozen=True):
    """A reason: its `name` in metrics and problem documents, the HTTP status, a title, and what to do."""

    name: str
    status: int
    title: str
    remedy: str


_FIND_SENDER: Final = "Find out which sender or proxy makes such requests."
_READ_COPIES: Final = "Read the copies in the quarantine."

REASONS: Final[dict[str, Reason]] = {
    reason.name: reason
    for reason in (
        Reason("not-http", 400, "Invalid HTTP request", _FIND_SENDER),
        Reason("not-json", 400, "Request body is not JSON", _READ_COPIES),
        Reason(
            "address-not-allowed",
            403,
            "Address not allowed",
            "If the address is the gateway's or your proxy's, add it to CALLBACKS_ALLOWED_IPS.",
        ),
        Reason("not-found", 404, "Not found", "If the gateway still uses a former token, add it to CALLBACKS_TOKENS."),
        Reason("method-not-allowed", 405, "Method not allowed", _FIND_SENDER),
        Reason(
            "too-slow",
            408,
            "Request too slow",
            "Look for a slow network or proxy, or raise CALLBACKS_BODY_TIMEOUT_SECONDS.",
        ),
        Reason("too-large", 413, "Request body too large", "Raise CALLBACKS_MAX_BODY_BYTES."),
        Reason("unsupported-media", 415, "Unsupported request body", _READ_COPIES),
        Reason("head-too-large", 431, "Request headers too large", _FIND_SENDER),
        Reason(
            "store-unavailable",
            503,
            "Callback could not be stored",
            "Make Redis available, or make room for the spool: run `callbacks check`.",
        ),
        Reason("overload", 503, "Too many requests in progress", "Start more web processes."),
        Reason("internal-error", 503, "Internal error", "See action=unexpected_error in the log of the web process."),
    )
}


def address_name(reason: str, sender: Sender) -> str:
    """Return the name under which a web process reports the last address that it refused: one for each of both."""
    return f"{reason}|{sender}"
