"""Which of the live events are asked for by the fields of the page's form."""

from collections.abc import Mapping, Sequence
from typing import Final

from msgspec import Struct

from shared.live_filter import Filter

KINDS: Final = ("report", "reply")
_MOST_CHARACTERS: Final = 64


class Chosen(Struct, frozen=True, kw_only=True):
    """What stands in the form; an empty text asks for nothing. `whole_numbers`: people's numbers are not masked."""

    kind: str = ""
    status: str = ""
    channel: str = ""
    recipient: str = ""
    whole_numbers: bool = False

    def filter(self) -> Filter:
        """Give the filter that it describes."""
        return Filter(
            kinds=_word(self.kind), statuses=_word(self.status), channels=_word(self.channel), number=self.recipient
        )


def read(form: Mapping[str, Sequence[str]]) -> Chosen:
    """Read a form; what it does not say, or says too long, is empty."""

    def field(name: str) -> str:
        given = (form.get(name) or ("",))[0].strip()
        return given if len(given) <= _MOST_CHARACTERS else ""

    kind = field("kind")
    return Chosen(
        kind=kind if kind in KINDS else "",
        status=field("status"),
        channel=field("channel"),
        recipient=field("recipient"),
        whole_numbers=field("numbers") == "full",
    )


def _word(text: str) -> frozenset[str]:
    return frozenset((text,)) if text else frozenset()
