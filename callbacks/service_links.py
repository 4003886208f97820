"""The variables that Kubernetes sets in a container for each Service of its namespace.

A Service named like a setting has variables that look like it: `callbacks-ops` brings CALLBACKS_OPS_PORT, whose value
is not a port. They are recognised here, and no setting is read from them.
The names: https://kubernetes.io/docs/concepts/services-networking/service/#environment-variables
"""

import re
from collections.abc import Mapping
from typing import Final

_NAME: Final = re.compile(
    r"(?P<service>[A-Z0-9_]+?)_"
    r"(?:SERVICE_HOST|SERVICE_PORT(?:_[A-Z0-9_]+)?|PORT_\d+_(?:TCP|UDP|SCTP)(?:_(?:PROTO|PORT|ADDR))?)"
)
_ADDRESS_NAME: Final = re.compile(r"[A-Z0-9_]+_PORT")
_ADDRESS: Final = re.compile(r"(?:tcp|udp|sctp)://.*")


def is_service_link(variable: str, environ: Mapping[str, str]) -> bool:
    """Return whether Kubernetes set the `variable` of `environ`: its Service has a host, or its port is an address."""
    if _ADDRESS_NAME.fullmatch(variable) and _ADDRESS.fullmatch(environ[variable].strip()):
        return True
    match = _NAME.fullmatch(variable)
    return match is not None and f"{match['service']}_SERVICE_HOST" in environ
