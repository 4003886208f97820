"""The filter form of the page *Live*."""

from collections.abc import Mapping, Sequence
from typing import Final

from msgspec import Struct

from shared.live_filter import LiveFilter

KINDS: Final = ("report", "reply")
_MAX_CHARACTERS: Final = 64


class LiveFilterForm(Struct, frozen=True, kw_only=True):
    """The fields of the form; an empty field filters nothing. `whole_numbers`: phone numbers are not masked."""

    kind: str = ""
    status: str = ""
    channel: str = ""
    recipient: str = ""
    whole_numbers: bool = False

    def filter(self) -> LiveFilter:
        """Return the filter that the form describes."""
        return LiveFilter(
            kinds=_word(self.kind), statuses=_word(self.status), channels=_word(self.channel), number=self.recipient
        )


def parse_form(form: Mapping[str, Sequence[str]]) -> LiveFilterForm:
    """Parse a form; a field that is missing or too long is empty."""

    def field(name: str) -> str:
        given = (form.get(name) or ("",))[0].strip()
        return given if len(given) <= _MAX_CHARACTERS else ""

    kind = field("kind")
    return LiveFilterForm(
        kind=kind if kind in KINDS else "",
        status=field("status"),
        channel=field("channel"),
        recipient=field("recipient"),
        whole_numbers=field("numbers") == "full",
    )


def _word(text: str) -> frozenset[str]:
    return frozenset((text,)) if text else frozenset()
