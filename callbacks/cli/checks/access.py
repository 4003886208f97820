"""Who may post callbacks: the tokens of their URLs, and the addresses that they come from."""

from collections.abc import Iterator
from typing import Final

from callbacks.cli.checks.result import CheckResult
from shared.setting_values import ANY_NETWORK
from shared.settings import Settings

# A token of this length cannot be guessed over the network.
_SAFE_TOKEN_CHARACTERS: Final = 16


def check_tokens(loaded: Settings) -> Iterator[CheckResult]:
    """Yield whether there are tokens, and whether one can be guessed."""
    tokens = loaded.tokens
    if not tokens:
        yield CheckResult(
            "wrong",
            "CALLBACKS_TOKENS is not set, so the web process does not start",
            "Set it to name=token; a good token: python3 -c 'import secrets; print(secrets.token_urlsafe(24))'",
        )
        return
    for token in tokens:
        if len(token.secret) < _SAFE_TOKEN_CHARACTERS:
            yield CheckResult(
                "advice",
                f"CALLBACKS_TOKENS: the token of {token.name!r} is short",
                f"Nothing else is secret, as the gateway signs nothing: use {_SAFE_TOKEN_CHARACTERS} characters.",
            )
    yield CheckResult("ok", f"tokens of {', '.join(dict.fromkeys(token.name for token in tokens))}")


def check_allowed_addresses(loaded: Settings) -> Iterator[CheckResult]:
    """Yield from which addresses callbacks are accepted, and which proxies are trusted."""
    if set(ANY_NETWORK) <= set(loaded.allowed_ips):
        yield CheckResult(
            "advice",
            "CALLBACKS_ALLOWED_IPS allows every address",
            "The gateway posts from 80.252.167.60; allow only that, unless a proxy in front does.",
        )
    else:
        yield CheckResult("ok", f"callbacks are accepted from {', '.join(map(str, loaded.allowed_ips))}")
    if loaded.trusted_proxies:
        yield CheckResult("ok", f"X-Forwarded-For is trusted from {', '.join(map(str, loaded.trusted_proxies))}")
