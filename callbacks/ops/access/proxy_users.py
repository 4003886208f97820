"""Users whom a trusted proxy has signed in, for example by OpenID Connect, and named in a header.

The header counts only on a connection from CALLBACKS_TRUSTED_PROXIES. That proxy must replace what a client sends
under this name. Name and role are read anew for each request, so a user who loses a group loses the right at once.
"""

from typing import Final

from starlette.datastructures import Headers
from starlette.types import Scope

from callbacks.ops.access.request_origin import RequestOrigin
from callbacks.ops.access.sessions import User
from shared.settings import Settings

# The longest address of a mailbox: RFC 5321, section 4.5.3.1, with RFC 3696's erratum 1690.
_MAX_CHARACTERS: Final = 254


class ProxyUsers:
    """Reads the user of a request from the headers of the settings."""

    def __init__(self, settings: Settings, origin: RequestOrigin) -> None:
        self._user_header = settings.ops_trusted_user_header
        self._groups_header = settings.ops_trusted_groups_header
        self._act_groups = frozenset(settings.ops_act_groups)
        self._origin = origin

    def find(self, scope: Scope) -> User | None:
        """Return the user; None if no trusted proxy names one."""
        if not self._user_header or not self._origin.is_from_trusted_proxy(scope):
            return None
        headers = Headers(scope=scope)
        name = _only_value(headers, self._user_header)
        if not 0 < len(name) <= _MAX_CHARACTERS or not name.isprintable():
            return None
        groups = {group.strip() for group in _only_value(headers, self._groups_header).split(",")}
        may_act = not self._act_groups or not self._act_groups.isdisjoint(groups)
        return User(name, "act" if may_act else "read", is_from_proxy=True)


def _only_value(headers: Headers, name: str) -> str:
    """Return the value of a header; "" if it is missing, or there are several: one of them may be the client's."""
    values = headers.getlist(name) if name else []
    if len(values) != 1:
        return ""
    # Starlette reads headers as Latin-1; a proxy writes a name in UTF-8.
    try:
        return values[0].encode("latin-1").decode().strip()
    except UnicodeDecodeError:
        return ""
