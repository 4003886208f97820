"""What `callbacks simulate` says of attempts that failed: what to do about the reason."""

from typing import Final

# By the beginning of a reason of `callbacks.simulator.failure_reason`.
_ADVICE: Final = {
    "connection refused": "Start the service there, for example with `callbacks dev`, or correct the port in the URL.",
    "unknown host": "Correct the host in the URL.",
    "404": "Use the URL with the token, as `callbacks dev` prints it, or a token of CALLBACKS_TOKENS.",
    "403": "Add the address of this machine to CALLBACKS_ALLOWED_IPS of the service.",
    "certificate": "Name the file of its certificate with --ca, or use the host name that the certificate is for.",
    "TLS": "Use http:// if the port does not speak TLS.",
    "not HTTP": "Correct the port in the URL, or use https:// if the port speaks TLS.",
}
_OTHER: Final = "The log of the service says more."


def advice(reason: str) -> str:
    """Return what to do about a failed attempt."""
    return next((text for beginning, text in _ADVICE.items() if reason.startswith(beginning)), _OTHER)
