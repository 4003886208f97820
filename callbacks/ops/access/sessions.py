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
LONGEST_SECONDS: Final = 12 * 3600
# The cookie is written anew at most so often.
RENEW_SECONDS: Final = 60

# OWASP's least for scrypt, 16 MiB and some 50 ms, once at the start.
_SCRYPT: Final = {"n": 1 << 14, "r": 8, "p": 1}
_KEY: Final = "callbacks.visit"


class Session(Struct, frozen=True, array_like=True):
    """A visit. `name` is who signed in, empty for nobody yet; the times are in seconds of Unix time."""

    identity: str
    name: str
    began_seconds: int
    seen_seconds: int


class Sessions:
    """Makes sessions, seals them and opens them; all of it in memory and in no time."""

    def __init__(self, password: str) -> None:
        self.needed = bool(password)
        salt = b"callbacks ops: sessions"
        self._key = hashlib.scrypt(password.encode(), salt=salt, **_SCRYPT) if password else secrets.token_bytes(64)
        self._password = self._digest("password", password)
        # Ports share their host's cookies: two services on one machine must not take each other's away.
        self._cookie = f"callbacks-{self._digest('cookie', '').hex()[:8]}"

    def is_password(self, given: str) -> bool:
        """Tell whether this is the password; the time that takes says nothing about it."""
        return self.needed and hmac.compare_digest(self._digest("password", given), self._password)

    def begin(self, name: str = "") -> Session:
        """Give a new session: for `name`, who has just signed in, or for nobody yet."""
        now = int(time.time())
        return Session(secrets.token_urlsafe(18), name, now, now)

    def cookie(self, *, secure: bool) -> str:
        """Name the cookie. On HTTPS no other host of the domain, and nobody on HTTP, can set one of that name."""
        return f"__Host-{self._cookie}" if secure else self._cookie

    def set_cookie(self, session: Session, *, secure: bool) -> str:
        """Give the header that keeps a session in the browser."""
        # Lax, not Strict: who follows a link from a chat is signed in. No GET changes anything.
        kept = f"{self.cookie(secure=secure)}={self.seal(session)}; Path=/; HttpOnly; SameSite=Lax"
        return f"{kept}; Max-Age={LONGEST_SECONDS}{'; Secure' if secure else ''}"

    def seal(self, session: Session) -> str:
        """Give what the cookie holds."""
        content = base64.urlsafe_b64encode(msgspec.json.encode(session)).decode()
        return f"{content}.{self._digest('seal', content).hex()}"

    def open(self, cookie: str) -> Session | None:
        """Give the session of a cookie; None if we did not seal it, or its time is over."""
        content, _, seal = cookie.partition(".")
        if not hmac.compare_digest(self._digest("seal", content).hex().encode(), seal.encode()):
            return None
        session = msgspec.json.decode(base64.urlsafe_b64decode(content), type=Session)
        return None if self.seconds_left(session) <= 0 else session

    def seconds_left(self, session: Session) -> float:
        """Tell how long a session has to go if nothing is asked in it any more."""
        now = time.time()
        idle = IDLE_SECONDS if session.name else LONGEST_SECONDS
        left = session.seen_seconds + idle - now
        return min(left, session.began_seconds + LONGEST_SECONDS - now) if session.name else left

    def renewed(self, session: Session) -> Session:
        """Give the session as it is after a request by hand."""
        return msgspec.structs.replace(session, seen_seconds=int(time.time()))

    def token(self, session: Session) -> str:
        """Give what a form must send along to be one of ours."""
        return self._digest("form", session.identity).hex()

    def is_token(self, session: Session, given: str) -> bool:
        """Tell whether a form sent it along."""
        return hmac.compare_digest(self.token(session).encode(), given.encode("utf-8", "surrogatepass"))

    def _digest(self, purpose: str, text: str) -> bytes:
        return hmac.digest(self._key, f"{purpose}\0{text}".encode("utf-8", "surrogatepass"), "sha256")


class Visit:
    """The session of one request; an endpoint that puts another in its place signs in or out."""

    def __init__(self, session: Session, given: Session | None, token: str) -> None:
        self.session = session
        self.given = given
        """What the browser has."""
        self.token = token

    def put(self, scope: Scope) -> None:
        """Let the functions below find it."""
        scope[_KEY] = self


def visit(request: Request) -> Visit | None:
    """Give the visit of a request; None where no session is asked for."""
    found: Visit | None = request.scope.get(_KEY)
    return found


def operator(request: Request) -> str:
    """Give who acts: the name given at sign-in, or "local" where no password is set."""
    found = visit(request)
    return (found and found.session.name) or LOCAL


def signed_in(request: Request) -> bool:
    """Tell whether somebody signed in, so that there is something to sign out of."""
    found = visit(request)
    return found is not None and bool(found.session.name)


def csrf_token(request: Request) -> str:
    """Give the token that a form of this request's answer must send along."""
    found = visit(request)
    if found is None:
        raise LookupError("a page that is open to all has no forms")
    return found.token
