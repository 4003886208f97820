"""Routes that are matched with the path as it was sent."""

from starlette.routing import Match, Route
from starlette.types import Scope


class RawPathRoute(Route):
    """A route whose path is compared undecoded. Slashes at the end and doubled ones mean nothing.

    If it were decoded first, `/status%0a` and `%2Fstatus` would match `/status`. Only the token may be encoded.
    """

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """Return whether the request is for this route, and what is then added to its scope."""
        if scope["type"] != "http":
            return Match.NONE, {}
        path = scope["raw_path"].decode("latin-1")
        if "//" in path or path.endswith("/"):
            path = "/" + "/".join(filter(None, path.split("/")))
        root_path = scope.get("root_path")  # uvicorn's --root-path: it stands before the path, which it is no part of
        if root_path:
            path = path.removeprefix(root_path)
        found = self.path_regex.match(path)
        return (Match.FULL, {"path_params": found.groupdict()}) if found else (Match.NONE, {})
