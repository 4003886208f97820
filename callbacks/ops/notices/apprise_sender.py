"""Sends notices through Apprise, which knows the URLs of mail, chats, phones and incident services.

Apprise reports trouble only in its log, which may hold parts of a URL: the log goes nowhere, and what it says of a
message that did not arrive is returned without them.
"""

import logging
import re
import threading
from collections.abc import Sequence
from typing import Final
from urllib.parse import unquote

import apprise

from callbacks.ops.notices.notice import Notice
from workers.deliver.error_text import masked_line

# A flood of them is one message, of which some services cut the end.
_MAX_NOTICES: Final = 20
# Shorter parts of a URL may be words of the error.
_MIN_SECRET: Final = 3
_APP: Final = "callbacks"
# No picture, which the reader of a message would load from the internet.
_ASSET: Final = apprise.AppriseAsset(
    app_id=_APP, app_desc=_APP, app_url="", image_url_mask="", image_url_logo="", async_mode=False
)


class _LastWarning(logging.Handler):
    """Keeps the last warning of each thread."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._local = threading.local()

    def emit(self, record: logging.LogRecord) -> None:
        """Keep the record's text."""
        self._local.text = record.getMessage()

    def take(self) -> str:
        """Return what was kept in this thread, and forget it."""
        text, self._local.text = getattr(self._local, "text", ""), ""
        return str(text)


_warnings: Final = _LastWarning()


class AppriseSender:
    """Sends to one URL."""

    max_notices = _MAX_NOTICES

    def __init__(self, url: str) -> None:
        logger = logging.getLogger("apprise")
        logger.propagate = False
        logger.handlers[:] = [_warnings]
        self._url = url
        service = apprise.Apprise.instantiate(url, asset=_ASSET)
        _warnings.take()
        if service is None:
            raise ValueError("is not a URL that Apprise understands; its documentation has the form for each service")
        self._service = service

    def send(self, notices: Sequence[Notice]) -> str:
        """Send the notices in one message."""
        title, text = _format(notices)
        _warnings.take()
        try:
            is_sent = self._service.notify(body=text, title=title, notify_type=_type(notices))
        except Exception as exc:  # noqa: BLE001 # whatever a service's module raises, the message did not arrive
            return type(exc).__name__
        said = _warnings.take()
        return "" if is_sent else masked_line(_without_parts(said, self._url)) or "it was not accepted"


def _format(notices: Sequence[Notice]) -> tuple[str, str]:
    if len(notices) == 1:
        return f"{_APP}: {notices[0].title}", notices[0].to_text()
    return (
        f"{_APP}: {len(notices)} notices",
        "\n\n".join(f"{notice.title}\n{notice.to_text()}" for notice in notices),
    )


def _type(notices: Sequence[Notice]) -> apprise.NotifyType:
    states = {notice.state for notice in notices}
    if states <= {"test"}:
        return apprise.NotifyType.INFO
    return apprise.NotifyType.SUCCESS if states == {"resolved"} else apprise.NotifyType.WARNING


def _without_parts(text: str, url: str) -> str:
    """Return `text` without what a URL has after its scheme: any part of it may be secret."""
    rest = url.partition("://")[2]
    parts = {form for part in re.split(r"[/?&=:@,;#+\s]+", rest) for form in (part, unquote(part))}
    for part in sorted(filter(lambda part: len(part) >= _MIN_SECRET, parts), key=len, reverse=True):
        text = re.sub(re.escape(part), "***", text, flags=re.IGNORECASE)
    return text
