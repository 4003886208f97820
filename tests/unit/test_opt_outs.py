"""A reply opts out or in only if a keyword is its whole text, however it is written."""

import pytest

from shared import opt_outs
from shared.opt_outs import IN_WORDS, OUT_WORDS, Keywords

DEFAULTS = Keywords.parse({})


@pytest.mark.parametrize(
    "text",
    [
        "STOP",
        "stop",
        " Stop. ",
        "\tSTOP!!!\n",
        "“stop”",
        "«Stop»",
        "'STOP'",
        "(stop)",
        "ＳＴＯＰ",  # noqa: RUF001 # full-width
        "𝐒𝐓𝐎𝐏",  # noqa: RUF001 # mathematical
        "STOP 😡👍🏽",
        "STOP ❤️",
        "\u202aSTOP\u202c",
        "\ufeffstop\u200b",
        "Stop\u00adall",
        "stop-all",
        "stop   all",
        "Opt-Out",
        "OPTOUT",
        "unsubscribe",
        "Arrêt",
        "ARRET",
        "arre\u0302t",
        "İPTAL",
        "\u0131ptal",  # as Turkish keyboards write IPTAL in small letters
        "ایقاف",  # with Persian's yeh
        "S.T.O.P",
        "s t o p",
        "un-subscribe",
        "수신 거부",
        "停止订阅",
        "\u3164STOP\u115f",
        "iptal",
        "стоп",
        "Στοπ",
        "στόπ",  # Greek
        "إِيقَاف",
        "ايقاف",
        "הסר",
        "बंद करें।",
        "停止。",
        "退订",
        "ｽﾄｯﾌﾟ",
        "수신거부",
        "stop" + "!" * 150,
        " " * 5000 + "stop" + "\n" * 5000,
    ],
)
def test_a_keyword_opts_out_however_it_is_written(text: str) -> None:
    assert DEFAULTS.wish(text) == "out"


@pytest.mark.parametrize("text", ["START", "start.", "Unstop", "opt-in", "ПОДПИСАТЬСЯ", "„Anmelden“", "開始"])
def test_a_keyword_opts_in_again(text: str) -> None:
    assert DEFAULTS.wish(text) == "in"


@pytest.mark.parametrize(
    "text",
    [
        None,
        "",
        "...",
        "😀",
        "Stop by at noon",
        "please stop",
        "don't stop",
        "stopped",
        "STOP STOP",
        "YES",
        "cancelled",
        "\0",
        "\ud800",
        "stop" * 100_000,
        "ﷺ" * 100_000,
    ],
)
def test_anything_else_is_neither(text: str | None) -> None:
    assert DEFAULTS.wish(text) is None


def test_each_default_is_a_keyword_and_none_is_for_both() -> None:
    assert {DEFAULTS.wish(word) for word in OUT_WORDS} == {"out"}
    assert {DEFAULTS.wish(word) for word in IN_WORDS} == {"in"}
    for words in (OUT_WORDS, IN_WORDS):
        assert len({opt_outs.normalize(word) for word in words}) == len(words), "one is there twice"


def test_words_of_ones_own_are_added_and_defaults_removed() -> None:
    own = Keywords.parse(
        {"CALLBACKS_OPTOUT_WORDS": "Nein danke, 9,,-cancel", "CALLBACKS_OPTIN_WORDS": " ja, bitte , YES"}
    )

    assert [own.wish(text) for text in ("NEIN  DANKE!", "9", "stop", "Cancel")] == ["out", "out", "out", None]
    assert [own.wish(text) for text in ("Ja", "Bitte", "yes", "start")] == ["in", "in", "in", "in"]


@pytest.mark.parametrize(
    ("environ", "problem"),
    [
        ({"CALLBACKS_OPTOUT_WORDS": "stop,!!!"}, "CALLBACKS_OPTOUT_WORDS: '!!!' is not a keyword"),
        ({"CALLBACKS_OPTIN_WORDS": "x" * 201}, "CALLBACKS_OPTIN_WORDS: 'xxx"),
        ({"CALLBACKS_OPTIN_WORDS": "Stop"}, "CALLBACKS_OPTIN_WORDS: 'stop' is a keyword for opting out too"),
        ({"CALLBACKS_OPTOUT_WORDS": "START"}, "CALLBACKS_OPTIN_WORDS: 'start' is a keyword for opting out too"),
    ],
)
def test_a_wrong_list_is_named(environ: dict[str, str], problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        Keywords.parse(environ)


def test_a_keyword_can_change_sides() -> None:
    moved = Keywords.parse({"CALLBACKS_OPTOUT_WORDS": "-END", "CALLBACKS_OPTIN_WORDS": "END"})

    assert moved.wish("End") == "in"
