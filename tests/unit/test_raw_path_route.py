"""Routes compare the path as it was sent, without what a proxy or a server has put before it."""

import pytest
from starlette.routing import Match

from ingest.raw_path_route import RawPathRoute


def _unused() -> None:
    raise AssertionError("no request is answered here")


ROUTE = RawPathRoute("/callbacks/{token}/status", _unused)


def match(raw_path: bytes, **scope: str) -> tuple[Match, dict[str, str]]:
    found, more = ROUTE.matches({"type": "http", "raw_path": raw_path, **scope})
    return found, dict(more.get("path_params", {}))


@pytest.mark.parametrize(
    ("raw_path", "root_path"),
    [
        (b"/callbacks/t%2B/status", ""),
        (b"//callbacks//t%2B/status//", ""),
        (b"/hooks/callbacks/t%2B/status", "/hooks"),
        (b"/hooks//callbacks/t%2B/status/", "/hooks"),
        # A server that leaves out what stands before the path.
        (b"/callbacks/t%2B/status", "/hooks"),
    ],
)
def test_a_path_matches_as_it_was_sent(raw_path: bytes, root_path: str) -> None:
    assert match(raw_path, root_path=root_path) == (Match.FULL, {"token": "t%2B"})


@pytest.mark.parametrize(
    "raw_path", [b"/callbacks/t%2Fstatus", b"/callbacks/t/status%0a", b"/hooks/callbacks/t/status"]
)
def test_any_other_path_does_not_match(raw_path: bytes) -> None:
    assert match(raw_path)[0] is Match.NONE
