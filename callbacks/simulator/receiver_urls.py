"""The URLs that callbacks are sent to, and their redacted form for messages."""

import re
from dataclasses import dataclass, field

from yarl import URL

from callbacks.simulator.callback import CallbackKind, UrlForm
from callbacks.simulator.errors import InvalidOption

_TOKEN = re.compile(r"(?<=/callbacks/)[^/?#\s]+")
_QUERY = re.compile(r"\?\S+")
_USER_INFO = re.compile(r"(?<=//)[^/@]*@")


@dataclass(frozen=True, slots=True)
class ReceiverUrls:
    """The two URLs of a receiver, which may be the same, and the one without kind."""

    status: URL = field(repr=False)
    reply: URL = field(repr=False)
    single: URL = field(repr=False)
    redacted_url: str
    """The base URL without its secrets, for people and logs."""

    def url(self, kind: CallbackKind, form: UrlForm = "own") -> URL:
        """Return the URL that gets callbacks of this kind, written in this form."""
        if form == "no kind":
            return self.single
        url = self.status if (kind == "status") == (form != "other kind") else self.reply
        path, _, name = url.raw_path.rstrip("/").rpartition("/")
        if form == "trailing slash" and name:
            return url.with_path(f"{path}/{name}/", encoded=True, keep_query=True)
        if form == "doubled slash" and name:
            return url.with_path(f"{path}//{name}", encoded=True, keep_query=True)
        return url


def parse_urls(base: str, *, single_url: bool = False) -> ReceiverUrls:
    """Return the target under `base`: BASE/status and BASE/reply, or BASE itself for both.

    Raise InvalidOption("url", …), whose text redacts what may be secret.
    """
    redacted_url = redact_url(base)
    try:
        url = URL(base)
    except ValueError:
        # Without a cause, whose message quotes the whole URL.
        raise InvalidOption("url", redacted_url, "is not a URL") from None
    if url.scheme not in {"http", "https"} or not url.host:
        raise InvalidOption("url", redacted_url, "must begin with http:// or https:// and name a host")
    if url.fragment:
        raise InvalidOption("url", redacted_url, "must not have a fragment (#…)")
    if single_url:
        return ReceiverUrls(url, url, url, redacted_url)
    path = url.raw_path.rstrip("/")
    if path.endswith(("/status", "/reply")):
        raise InvalidOption(
            "url", redacted_url, "must be the base URL without /status or /reply: remove it, or use --single-url"
        )
    status, reply = (url.with_path(f"{path}/{kind}", encoded=True, keep_query=True) for kind in ("status", "reply"))
    return ReceiverUrls(status, reply, url, redacted_url)


def redact_url(url: str) -> str:
    """Return `url` without the path segment after /callbacks/, without query and without user information."""
    return _USER_INFO.sub("…@", _QUERY.sub("?…", _TOKEN.sub("…", url)))
