"""Where notices go: the targets that CALLBACKS_NOTIFY names. A target is shown as its position and scheme, no more.

The libraries are imported only if there is a target: they need the extra `notify`, and about 30 MiB of memory.
"""

import hashlib
import importlib.util
import logging
from collections.abc import Sequence
from typing import Final, Protocol

from callbacks.distribution import install_command
from callbacks.ops.notices.notice import Notice
from shared.errors import ConfigurationError
from shared.settings import Settings

_VARIABLE: Final = "CALLBACKS_NOTIFY"
_SIGNED: Final = "webhook+"
_MODULES: Final = ("apprise", "httpx", "standardwebhooks")
# What these log may hold a URL, and so a token: urllib3 names that of an answer with a malformed header.
_LOGGERS: Final = ("urllib3", "requests", "httpx", "httpcore")


class NoticeSender(Protocol):
    """Sends notices to one URL."""

    max_notices: int
    """How many notices fit in one message."""

    def send(self, notices: Sequence[Notice]) -> str:
        """Send one message; return what went wrong, without any part of the URL, "" if it arrived."""


class NoticeTarget:
    """A target: its `name` for people, its `key` in Redis, and how to send to it."""

    def __init__(self, url: str, position: int, sender: NoticeSender) -> None:
        self.scheme = url.partition("://")[0].lower()
        self.name = f"target {position} ({self.scheme}://…)"
        self.key = hashlib.blake2b(url.encode(), digest_size=6).hexdigest()
        self.sender = sender


def read_targets(settings: Settings) -> list[NoticeTarget]:
    """Return the targets, no two of them equal. Raise ConfigurationError, which shows no URL and no secret."""
    if not settings.notify:
        return []
    if any(importlib.util.find_spec(module) is None for module in _MODULES):
        raise ConfigurationError([f"{_VARIABLE} needs an extra that is not installed: {install_command('notify')}"])
    _silence_libraries()
    targets: dict[str, NoticeTarget] = {}
    problems: list[str] = []
    for position, url in enumerate(settings.notify, start=1):
        try:
            target = NoticeTarget(url, position, _make_sender(url, settings.notify_secret))
        except ConfigurationError as exc:  # of the secret
            problems += exc.problems
            continue
        except ValueError as exc:
            problems.append(f"{_VARIABLE}: target {position} {exc}")
            continue
        targets.setdefault(target.key, target)
    if problems:
        raise ConfigurationError(list(dict.fromkeys(problems)))
    return list(targets.values())


def _silence_libraries() -> None:
    for name in _LOGGERS:
        logger = logging.getLogger(name)
        logger.propagate = False
        logger.handlers[:] = [logging.NullHandler()]


def _make_sender(url: str, secret: str) -> NoticeSender:
    from callbacks.ops.notices import apprise_sender, signed_sender  # noqa: PLC0415 # the extra may not be installed

    if url.lower().startswith(_SIGNED):
        return signed_sender.SignedSender(url[len(_SIGNED) :], secret)
    return apprise_sender.AppriseSender(url)
