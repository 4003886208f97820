"""PostgreSQL on several hosts: libpq tries them in order, and the handler needs the one that can be written to.

libpq's own URL names them in its address (`postgresql://user@one:5432,two:5433/name`), which SQLAlchemy does not read;
it reads the same as options (`?host=one,two&port=5432,5433`).
"""

import re
from typing import Final
from urllib.parse import quote

from sqlalchemy import URL

_ADDRESS: Final = re.compile(r"(?P<login>[^/?]*@)?(?P<hosts>[^/?@]*)(?P<rest>.*)", re.DOTALL)
_HOST: Final = re.compile(r"(?:\[(?P<ipv6>[0-9A-Fa-f:.]+)\]|(?P<name>[\w.-]+))(?::(?P<port>[0-9]{1,5}))?")


def as_options(rest: str) -> str:
    """Return what follows `://` of a URL, with several hosts as options. Raise ValueError if one cannot be read."""
    parts = _ADDRESS.fullmatch(rest)
    if parts is None or "," not in parts["hosts"]:
        return rest
    hosts = [_HOST.fullmatch(host) for host in parts["hosts"].split(",")]
    found = [host for host in hosts if host is not None]
    if len(found) < len(hosts):
        raise ValueError("a host must be NAME or NAME:PORT")
    names = ",".join(host["ipv6"] or host["name"] for host in found)
    ports = ",".join(host["port"] or "" for host in found)
    options = f"host={quote(names, safe=',')}" + (f"&port={ports}" if ports.strip(",") else "")
    return f"{parts['login'] or ''}{parts['rest']}{'&' if '?' in parts['rest'] else '?'}{options}"


def addresses(url: URL) -> str | None:
    """Return the hosts of a URL as they are written in an address, or None if it does not name several."""
    hosts, ports = (_list(url, name) for name in ("host", "port"))
    if len(hosts) <= 1:
        return None
    named = [f"[{host}]" if host.count(":") > 1 else host for host in hosts]
    return ",".join(
        f"{host}:{port}" if port else host
        for host, port in zip(named, ports if len(ports) == len(named) else [""] * len(named), strict=True)
    )


def _list(url: URL, option: str) -> list[str]:
    value = url.query.get(option, "")
    return value.split(",") if isinstance(value, str) else list(value)
