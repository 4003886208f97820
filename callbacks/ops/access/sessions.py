"""Who looks at the page: sealed into a cookie, so that every process with the same password agrees on it.

The seal's key is derived from the password, hence a change of the password ends every session. It is derived slowly
(scrypt), since whoever steals a cookie could otherwise try passwords against it at home. Without a password there is
nobody to tell apart: whoever reaches the loopback address is "local", the key is this process's own, and the cookie is
there for the forms' tokens alone.
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

LOCAL: Final = "local"
NAME_CHARACTERS: Final = 64
# A session ends after so long without a request by hand, and after so long in any case: a shift.
IDLE_SECONDS: Final = 2 * 3600
MAX_SECONDS: Final = 12 * 3600
# The cookie is written anew at most so often.
RENEW_SECONDS: Final = 60

# OWASP's least for scrypt, 16 MiB and some 50 ms, once at the start.
_SCRYPT: Final = {"n": 1 << 14, "r": 8, "p": 1}
_KEY: Final = "callbacks.visit"


class Session(Struct, frozen=True, array_like=True):
    """A visit. `name` is who signed in, empty for nobody yet; the times are in seconds of Unix time."""

    identity: str
    name: str
    started_seconds: int
    seen_seconds: int


class SessionSigner:
    """Makes sessions, seals them and opens them; all of it in memory and in no time."""

    def __init__(self, password: str) -> None:
        self.is_required = bool(password)
        salt = b"callbacks ops: sessions"
        self._key = hashlib.scrypt(password.encode(), salt=salt, **_SCRYPT) if password else secrets.token_bytes(64)
        self._password = self._digest("password", password)
        # Ports share their host's cookies: two services on one machine must not take each other's away.
        self._cookie = f"callbacks-{self._digest('cookie', '').hex()[:8]}"

    def verify_password(self, received: str) -> bool:
        """Tell whether this is the password; the time that takes says nothing about it."""
        return self.is_required and hmac.compare_digest(self._digest("password", received), self._password)

    def create(self, name: str = "") -> Session:
        """Give a new session: for `name`, who has just signed in, or for nobody yet."""
        now = int(time.time())
        return Session(secrets.token_urlsafe(18), name, now, now)

    def cookie_name(self, *, secure: bool) -> str:
        """Name the cookie. On HTTPS no other host of the domain, and nobody on HTTP, can set one of that name."""
        return f"__Host-{self._cookie}" if secure else self._cookie

    def cookie_header(self, session: Session, *, secure: bool) -> str:
        """Give the header that keeps a session in the browser."""
        # Lax, not Strict: who follows a link from a chat is signed in. No GET changes anything.
        kept = f"{self.cookie_name(secure=secure)}={self.sign(session)}; Path=/; HttpOnly; SameSite=Lax"
        return f"{kept}; Max-Age={MAX_SECONDS}{'; Secure' if secure else ''}"

    def sign(self, session: Session) -> str:
        """Give what the cookie holds."""
        content = base64.urlsafe_b64encode(msgspec.json.encode(session)).decode()
        return f"{content}.{self._digest('seal', content).hex()}"

    def verify(self, cookie: str) -> Session | None:
        """Give the session of a cookie; None if we did not seal it, or its time is over."""
        content, _, seal = cookie.partition(".")
        if not hmac.compare_digest(self._digest("seal", content).hex().encode(), seal.encode()):
            return None
        session = msgspec.json.decode(base64.urlsafe_b64decode(content), type=Session)
        return None if self.seconds_left(session) <= 0 else session

    def seconds_left(self, session: Session) -> float:
        """Tell how long a session has to go if nothing is asked in it any more."""
        now = time.time()
        idle = IDLE_SECONDS if session.name else MAX_SECONDS
        left = session.seen_seconds + idle - now
        return min(left, session.started_seconds + MAX_SECONDS - now) if session.name else left

    def renew(self, session: Session) -> Session:
        """Give the session as it is after a request by hand."""
        return msgspec.structs.replace(session, seen_seconds=int(time.time()))

    def csrf_token(self, session: Session) -> str:
        """Give what a form must send along to be one of ours."""
        return self._digest("form", session.identity).hex()

    def verify_csrf_token(self, session: Session, received: str) -> bool:
        """Tell whether a form sent it along."""
        return hmac.compare_digest(self.csrf_token(session).encode(), received.encode("utf-8", "surrogatepass"))

    def _digest(self, purpose: str, text: str) -> bytes:
        return hmac.digest(self._key, f"{purpose}\0{text}".encode("utf-8", "surrogatepass"), "sha256")


class RequestSession:
    """The session of one request; an endpoint that puts another in its place signs in or out."""

    def __init__(self, session: Session, received: Session | None, token: str) -> None:
        self.session = session
        self.received = received
        """What the browser has."""
        self.token = token

    def attach(self, scope: Scope) -> None:
        """Let the functions below find it."""
        scope[_KEY] = self


def request_session(request: Request) -> RequestSession | None:
    """Give the visit of a request; None where no session is asked for."""
    found: RequestSession | None = request.scope.get(_KEY)
    return found


def operator(request: Request) -> str:
    """Give who acts: the name given at sign-in, or "local" where no password is set."""
    found = request_session(request)
    return (found and found.session.name) or LOCAL


def signed_in(request: Request) -> bool:
    """Tell whether somebody signed in, so that there is something to sign out of."""
    found = request_session(request)
    return found is not None and bool(found.session.name)


def csrf_token(request: Request) -> str:
    """Give the token that a form of this request's answer must send along."""
    found = request_session(request)
    if found is None:
        raise LookupError("a page that is open to all has no forms")
    return found.token
