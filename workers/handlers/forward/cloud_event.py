"""An event as a CloudEvent 1.0, in its structured JSON form.

    {"specversion":"1.0","id":…,"source":"/callbacks/main","type":"callbacks.report","subject":MESSAGE_ID,
     "time":…,"datacontenttype":"application/json","data":{…as event.to_json()…}}

`source` and `id` together identify the event, as the specification requires: they are the same at every attempt.
"""

import json
import re
from datetime import UTC, datetime
from typing import Final
from urllib.parse import quote

from callbacks import Event

FORGET_TYPE: Final = "person.forget"
CONTENT_TYPE: Final = "application/cloudevents+json"

# Characters not allowed in attributes (specification 1.0.2, "Type System"): control characters, surrogates and
# noncharacters.
_DISALLOWED: Final = re.compile(
    "[\x00-\x1f\x7f-\x9f\ud800-\udfff\ufdd0-\ufdef"
    + "".join(chr(plane << 16 | last) for plane in range(17) for last in (0xFFFE, 0xFFFF))
    + "]"
)


def render(event: Event) -> str:
    """Return the event as a CloudEvent, one line of JSON."""
    attributes = {
        "specversion": "1.0",
        "id": event.id,
        "source": f"/callbacks/{quote(event.source)}",
        "type": f"callbacks.{event.kind}",
    }
    message_id = event.message_id if event.kind == "report" else event.reply_message_id
    # The subject is optional, and `data` has the id too.
    if message_id and not _DISALLOWED.search(message_id):
        attributes["subject"] = message_id
    attributes["time"] = _rfc3339(event.occurred_at or event.received_at)
    attributes["datacontenttype"] = "application/json"
    head = json.dumps(attributes, ensure_ascii=False, separators=(",", ":"))
    return f'{head[:-1]},"data":{event.to_json()}}}'


def render_forget(event_id: str, number: str) -> str:
    """Return the CloudEvent that asks a target to erase a person's data; `number` is its digits."""
    attributes = {
        "specversion": "1.0",
        "id": event_id,
        "source": "/callbacks",
        "type": FORGET_TYPE,
        "time": _rfc3339(datetime.now(UTC)),
        "datacontenttype": "application/json",
        "data": {"number": number},
    }
    return json.dumps(attributes, separators=(",", ":"))


def _rfc3339(time: datetime) -> str:
    return time.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
