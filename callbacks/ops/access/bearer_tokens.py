"""The bearer tokens of `/api` (CALLBACKS_OPS_TOKENS): whose a request is, and what its owner may do."""

import hmac
from collections.abc import Iterable

from shared.setting_values import OperatorToken


class BearerTokens:
    """Identifies the tokens of requests."""

    def __init__(self, tokens: Iterable[OperatorToken]) -> None:
        self._tokens = tuple((token, token.secret.encode()) for token in tokens)

    def find(self, authorization: str) -> OperatorToken | None:
        """Return the token in an Authorization header (RFC 6750); None if it is unknown.

        All tokens are compared, in constant time.
        """
        scheme, _, given = authorization.partition(" ")
        offered = given.strip().encode("utf-8", "surrogatepass") if scheme.lower() == "bearer" else b""
        found = None
        for token, secret in self._tokens:
            if hmac.compare_digest(offered, secret):
                found = token
        return found
