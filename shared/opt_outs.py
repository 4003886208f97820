"""Replies that say STOP or START: the keywords with which people opt out of further messages, and in again.

A reply is one of them only if a keyword is its whole text: in any case and width, with or without accents, with any
blanks, punctuation, quotes and emoji around and within it. "Stop by at noon" opts out of nothing.

The English keywords are those that carriers and providers require (CTIA, Messaging Principles and Best Practices;
47 CFR 64.1200(a)(10); Twilio and AWS), without YES, which answers many other questions. The others are those that
campaigns in these languages name.
"""

import functools
import os
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final, Literal, Self, TypeAlias

Wish: TypeAlias = Literal["out", "in"]

OUT_VARIABLE: Final = "CALLBACKS_OPTOUT_WORDS"
IN_VARIABLE: Final = "CALLBACKS_OPTIN_WORDS"

OUT_WORDS: Final = (
    *("STOP", "STOP ALL", "UNSUBSCRIBE", "CANCEL", "END", "QUIT", "REMOVE", "REVOKE", "OPT OUT"),
    *("ARRET", "ARRETE", "ARRETER", "DESABONNER"),  # French
    *("STOPP", "ABMELDEN", "ABBESTELLEN"),  # German
    *("BAJA", "PARAR", "CANCELAR", "SAIR"),  # Spanish, Portuguese
    *("DISISCRIVI", "AFMELDEN", "AVSLUTA", "AFMELD", "LOPETA"),  # Italian, Dutch, Swedish, Danish, Finnish
    *("WYPISZ", "ODHLASIT", "LEIRATKOZAS", "DEZABONARE"),  # Polish, Czech and Slovak, Hungarian, Romanian
    *("DUR", "IPTAL", "RET", "WAQQAF", "BERHENTI", "TU CHOI"),  # Turkish, Maltese, Malay and Indonesian, Vietnamese
    *("СТОП", "ОТПИСАТЬСЯ", "ОТПИСКА", "ВІДПИСАТИСЯ"),  # Russian and Bulgarian, Ukrainian
    *("ΣΤΟΠ", "ΔΙΑΓΡΑΦΗ"),  # Greek
    *("توقف", "إيقاف", "إلغاء", "إلغاء الاشتراك", "لغو", "הסר", "הסרה", "עצור"),  # Arabic, Persian, Hebrew
    *("रोकें", "बंद करें", "หยุด", "ยกเลิก"),  # Hindi, Thai
    *(
        "停止",
        "停止订阅",
        "停止訂閱",
        "退订",
        "退訂",
        "取消订阅",
        "取消訂閱",
        "TD",
        "ストップ",
        "配信停止",
        "수신거부",
        "중지",
    ),  # Chinese, Japanese, Korean
)
IN_WORDS: Final = (
    *("START", "UNSTOP", "SUBSCRIBE", "RESUBSCRIBE", "OPT IN"),
    *("ABONNER", "ANMELDEN", "ALTA", "ISCRIVI", "AANMELDEN"),  # French, German, Spanish, Italian, Dutch
    *("СТАРТ", "ПОДПИСАТЬСЯ", "ПІДПИСАТИСЯ", "ΕΝΑΡΞΗ"),  # noqa: RUF001 # Russian, Ukrainian, Greek
    *("ابدأ", "اشتراك", "התחל", "เริ่ม"),  # Arabic, Hebrew, Thai
    *("订阅", "訂閱", "開始", "开始", "再開", "시작"),  # Chinese, Japanese, Korean
)

# No keyword is longer, nor a text that is nothing but one with what may stand around it.
_MAX_CHARACTERS: Final = 200
# Accents of Latin, Greek and Cyrillic; Arabic's marks and its lengthening; selectors of the form of an emoji; letters
# of Hangul that cannot be seen.
_DROPPED: Final = frozenset(
    map(chr, (*range(0x300, 0x370), *range(0x64B, 0x656), 0x640, 0x670, 0x115F, 0x1160, *range(0xFE00, 0xFE10)))
)
# Letters that another keyboard has in the place of those of a keyword: Turkish without the dot, Persian and Urdu.
_SAME_LETTERS: Final = str.maketrans({"\u0131": "i", "\u06cc": "\u064a", "\u0649": "\u064a", "\u06a9": "\u0643"})


@dataclass(frozen=True, slots=True)
class Keywords:
    """The keywords of this service, normalised, without blanks."""

    out_words: frozenset[str]
    in_words: frozenset[str]

    @classmethod
    def parse(cls, environ: Mapping[str, str]) -> Self:
        """Return the keywords of the two variables and the defaults. Raise ValueError, which names the variable.

        A value has keywords separated by commas, which are added to the defaults; `-WORD` removes one.
        """
        found = cls(
            *(
                frozenset(_parse(environ, name, words))
                for name, words in ((OUT_VARIABLE, OUT_WORDS), (IN_VARIABLE, IN_WORDS))
            )
        )
        if both := sorted(found.out_words & found.in_words):
            raise ValueError(
                f"{IN_VARIABLE}: {both[0]!r} is a keyword for opting out too: write -{both[0]} in one of the two"
            )
        return found

    def wish(self, text: str | None) -> Wish | None:
        """Return "out" if a reply's text opts out, "in" if it opts in, None if it is anything else."""
        if text is None or len(text := text.strip()) > _MAX_CHARACTERS:
            return None
        word = _joined(normalize(text))
        return "out" if word in self.out_words else "in" if word in self.in_words else None


def wish(text: str | None) -> Wish | None:
    """Return "out" if a reply's text opts out, "in" if it opts in, None if it is anything else.

    By the keywords of this process's environment. If they are wrong, by the defaults: the handler `optout`, whose
    settings they are, says what is wrong.
    """
    return _of_this_process().wish(text)


def normalize(text: str) -> str:
    """Return a text as keywords are compared; "" if it has neither a letter nor a digit."""
    # Folding the case can make characters that have to be decomposed too.
    folded = unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", text).casefold())
    return " ".join("".join(_comparable(folded)).translate(_SAME_LETTERS).split())


def _joined(word: str) -> str:
    """Return a normalised text without its blanks: "s t o p", "opt out" and Korean's two spellings are the same."""
    return word.replace(" ", "")


def _comparable(text: str) -> Iterator[str]:
    for character in text:
        category = unicodedata.category(character)
        if category == "Cf" or character in _DROPPED:  # what cannot be seen may stand within a word
            continue
        yield character if category[0] in "LMN" else " "


def _parse(environ: Mapping[str, str], variable: str, defaults: Iterable[str]) -> Iterator[str]:
    """Yield the keywords of one variable and its defaults, normalised."""
    given = list(filter(None, map(str.strip, environ.get(variable, "").split(","))))
    removed = set()
    for entry in given:
        word = _joined(normalize(entry))
        if not word or len(entry) > _MAX_CHARACTERS:
            raise ValueError(
                f"{variable}: {entry[:40]!r} is not a keyword: write a word or a few, at most 200 characters"
            )
        if entry.startswith("-"):
            removed.add(word)
    words = (_joined(normalize(word)) for word in (*defaults, *(entry for entry in given if not entry.startswith("-"))))
    return (word for word in words if word not in removed)


@functools.cache
def _of_this_process() -> Keywords:
    try:
        return Keywords.parse(os.environ)
    except ValueError:
        return Keywords.parse({})
