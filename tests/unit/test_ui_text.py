"""Text from servers before it is shown."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serverflow_cli.ui.text import clean, clean_block


@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        ("plain", "plain"),
        ("\x1b[31mred\x1b[0m", "red"),
        ("\x1b]0;title\x07after", "after"),
        ("\x1b]8;;http://evil\x1b\\link\x1b]8;;\x1b\\", "link"),
        ("\x1bPdcs\x1b\\x", "x"),
        ("\x9b31mc1", "c1"),
        ("a\x00b\x08c\x7fd", "abcd"),
        ("\u202egnp.exe\u202c", "gnp.exe"),
        ("\u2066x\u2069\u200b", "x"),
        ("one\r\ntwo\tthree", "one two three"),
        ("lone \ud800 surrogate", "lone  surrogate"),
        ("Grüße, 東京, [bold]", "Grüße, 東京, [bold]"),
        ("\x1b", ""),
        ("\x1b]0;never ends", ""),
    ],
)
def test_what_could_drive_a_terminal_is_gone(raw: str, shown: str) -> None:
    assert clean(raw) == shown


def test_a_block_keeps_lines_and_tabs() -> None:
    assert clean_block("a\n\tb\x1b[2J\rc") == "a\n\tbc"


@given(st.text())
def test_nothing_unsafe_gets_through(raw: str) -> None:
    assert not any(unicodedata.category(c) in ("Cc", "Cf", "Cs", "Zl", "Zp") for c in clean(raw))
    assert not any(unicodedata.category(c) in ("Cc", "Cf", "Cs") and c not in "\n\t" for c in clean_block(raw))


@given(st.text())
def test_cleaning_twice_is_cleaning_once(raw: str) -> None:
    assert clean(clean(raw)) == clean(raw)
