"""Which of the live events somebody wants to see, from the fields of the page's form."""

import re
from collections.abc import Mapping, Sequence
from typing import Final

from msgspec import Struct

from shared.events import Event

KINDS: Final = ("report", "reply")
_MOST_CHARACTERS: Final = 64
_NO_DIGIT: Final = re.compile(r"[^0-9]")


class Filter(Struct, frozen=True, kw_only=True):
    """What is asked for; an empty text asks for nothing. `whole_numbers`: numbers of people are not to be masked."""

    kind: str = ""
    status: str = ""
    channel: str = ""
    recipient: str = ""
    whole_numbers: bool = False

    def passes(self, event: Event) -> bool:
        """Tell whether `event` is wanted. A number may be given in part, with or without a +, blanks and strokes.

        The person's number is a report's recipient, and a reply's sender.
        """
        if self.kind and event.kind != self.kind:
            return False
        if self.status and (event.kind != "report" or event.status.upper() != self.status.upper()):
            return False
        if self.channel and (event.channel or "").upper() != self.channel.upper():
            return False
        digits = _NO_DIGIT.sub("", self.recipient)
        number = event.recipient if event.kind == "report" else event.sender
        return not self.recipient or bool(digits and digits in _NO_DIGIT.sub("", number or ""))


def read(form: Mapping[str, Sequence[str]]) -> Filter:
    """Read a form; what it does not say, or says too long, is empty."""

    def field(name: str) -> str:
        given = (form.get(name) or ("",))[0].strip()
        return given if len(given) <= _MOST_CHARACTERS else ""

    kind = field("kind")
    return Filter(
        kind=kind if kind in KINDS else "",
        status=field("status"),
        channel=field("channel"),
        recipient=field("recipient"),
        whole_numbers=field("numbers") == "full",
    )
