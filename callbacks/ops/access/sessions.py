"""Sessions of users in a signed cookie, so that every process with the same password accepts them.

The signing key is derived from the password: a new password ends every session. The derivation is slow (scrypt), since
a thief of a cookie could otherwise try passwords against it offline. Without a password every user who reaches the
loopback address is "local", the key belongs to this process, and the cookie serves CSRF tokens only.
"""

import base64
import hashlib
import hmac
import secrets
import time
from typing import Final

import msgspec
from msgspec import Struct
from starlette.requests import Request
from starlette.types import Scope

from shared.setting_values import Role

LOCAL: Final = "local"
NAME_CHARACTERS: Final = 64
# A session ends after this time without a request by a user, and in any case after a shift.
IDLE_SECONDS: Final = 2 * 3600
MAX_SECONDS: Final = 12 * 3600
# The cookie is renewed at most once in this time.
RENEW_SECONDS: Final = 60

# OWASP's minimum for scrypt: 16 MiB and about 50 ms, once at the start.
_SCRYPT: Final = {"n": 1 << 14, "r": 8, "p": 1}
_KEY: Final = "callbacks.visit"


class Session(Struct, frozen=True, array_like=True):
    """A session. `name` is the user, empty before sign-in; times are in seconds of Unix time."""

    identity: str
    name: str
    started_seconds: int
    seen_seconds: int
    role: Role = "read"


class User(Struct, frozen=True):
    """Who sent a request, and what this user may do. `is_from_proxy`: a trusted proxy names the user."""

    name: str
    role: Role
    is_from_proxy: bool = False


class SessionSigner:
    """Creates, signs and verifies sessions in memory. With `read_password` a user may read, and not act."""

    def __init__(self, password: str, read_password: str = "") -> None:
        self.has_password = bool(password or read_password)
        salt = b"callbacks ops: sessions"
        both = f"{password}\0{read_password}".encode()
        self._key = hashlib.scrypt(both, salt=salt, **_SCRYPT) if self.has_password else secrets.token_bytes(64)
        known: tuple[tuple[str, Role], ...] = ((password, "act"), (read_password, "read"))
        self._passwords = tuple((self._digest("password", text), role) for text, role in known if text)
        # Ports of one host share cookies: two services on one machine must not overwrite each other's.
        self._cookie = f"callbacks-{self._digest('cookie', '').hex()[:8]}"

    def verify_password(self, received: str) -> Role | None:
        """Return the role that a password gives; None if it is wrong. All are compared, in constant time."""
        digest, found = self._digest("password", received), None
        for known, role in self._passwords:
            if hmac.compare_digest(digest, known):
                found = role
        return found

    def create(self, name: str = "", role: Role = "read") -> Session:
        """Return a new session for `name`, or one that is not signed in."""
        now = int(time.time())
        return Session(secrets.token_urlsafe(18), name, now, now, role)

    def cookie_name(self, *, secure: bool) -> str:
        """Return the name of the cookie. With HTTPS no other host of the domain, and no HTTP response, can set it."""
        return f"__Host-{self._cookie}" if secure else self._cookie

    def cookie_header(self, session: Session, *, secure: bool) -> str:
        """Return the Set-Cookie header for a session."""
        # Lax, not Strict: a user who follows a link from a chat stays signed in. No GET changes anything.
        kept = f"{self.cookie_name(secure=secure)}={self.sign(session)}; Path=/; HttpOnly; SameSite=Lax"
        return f"{kept}; Max-Age={MAX_SECONDS}{'; Secure' if secure else ''}"

    def sign(self, session: Session) -> str:
        """Return the value of the cookie."""
        content = base64.urlsafe_b64encode(msgspec.json.encode(session)).decode()
        return f"{content}.{self._digest('seal', content).hex()}"

    def verify(self, cookie: str) -> Session | None:
        """Return the session in a cookie; None if the signature is wrong or the session has expired."""
        content, _, seal = cookie.partition(".")
        if not hmac.compare_digest(self._digest("seal", content).hex().encode(), seal.encode()):
            return None
        session = msgspec.json.decode(base64.urlsafe_b64decode(content), type=Session)
        return None if self.seconds_left(session) <= 0 else session

    def seconds_left(self, session: Session) -> float:
        """Return the seconds until a session expires if no request follows."""
        now = time.time()
        idle = IDLE_SECONDS if session.name else MAX_SECONDS
        left = session.seen_seconds + idle - now
        return min(left, session.started_seconds + MAX_SECONDS - now) if session.name else left

    def renew(self, session: Session) -> Session:
        """Return the session as it is after a request by a user."""
        return msgspec.structs.replace(session, seen_seconds=int(time.time()))

    def csrf_token(self, session: Session) -> str:
        """Return the CSRF token that a form must send."""
        return self._digest("form", session.identity).hex()

    def verify_csrf_token(self, session: Session, received: str) -> bool:
        """Return whether a form sent the right CSRF token."""
        return hmac.compare_digest(self.csrf_token(session).encode(), received.encode("utf-8", "surrogatepass"))

    def _digest(self, purpose: str, text: str) -> bytes:
        return hmac.digest(self._key, f"{purpose}\0{text}".encode("utf-8", "surrogatepass"), "sha256")


class RequestSession:
    """The session of one request. An endpoint replaces it to sign in or out."""

    def __init__(self, session: Session, received: Session | None, token: str, user: User | None) -> None:
        self.session = session
        self.received = received
        """The session that the browser sent."""
        self.token = token
        self.user = user
        """Who sent the request; None if that is not known."""

    def attach(self, scope: Scope) -> None:
        """Store it in the scope for the functions below."""
        scope[_KEY] = self


def request_session(request: Request) -> RequestSession | None:
    """Return the session of a request; None on paths that need none."""
    found: RequestSession | None = request.scope.get(_KEY)
    return found


def operator(request: Request) -> str:
    """Return the user: the name from sign-in, or "local" without a password."""
    found = request_session(request)
    return found.user.name if found is not None and found.user is not None else LOCAL


def may_act(request: Request) -> bool:
    """Return whether the user may change something, or see whole numbers."""
    found = request_session(request)
    return found is not None and found.user is not None and found.user.role == "act"


def signed_in(request: Request) -> bool:
    """Return whether a user is signed in here, with a password."""
    found = request_session(request)
    return found is not None and bool(found.session.name)


def is_from_proxy(request: Request) -> bool:
    """Return whether a trusted proxy names the user."""
    found = request_session(request)
    return found is not None and found.user is not None and found.user.is_from_proxy


def csrf_token(request: Request) -> str:
    """Return the CSRF token for a form in the response. Raise LookupError on open paths."""
    found = request_session(request)
    if found is None:
        raise LookupError("a path without a session cannot have a form")
    return found.token
