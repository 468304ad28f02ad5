"""Command lines without a shell, held against a shell."""

from __future__ import annotations

import subprocess

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from serverflow_actions.kit.argv import check, quoted, split


@pytest.mark.parametrize(
    "argv",
    [
        ["bin/report"], ["bin/report", "--all", ""], ["/usr/bin/env", "A=1", "x"],
        ["grep", "a|b", "x;y", "a>b", "$HOME"], ["find", "(", "-name", "*.py", ")"], ["sh", "-c", "a | b"],
        ["pip", "install", "x>=1"], ["a", "é", "-", "--"],
    ],
)  # fmt: skip
def test_words_that_need_no_shell(argv: list[str]) -> None:
    assert check(argv) == tuple(argv)


@pytest.mark.parametrize(
    "word",
    [
        "|", "||", "|&", "&", "&&", ";", ";;", ">", ">>", "<", "<<", "<<<", ">|", "<>", ">&", "&>", "&>>",
        "2>", "2>>", "2>&1", "1>&2", ">&2", "2>&-", ">/dev/null", "2>/dev/null", "&>/dev/null", "</dev/null",
    ],
)  # fmt: skip
def test_operators_are_refused_as_words(word: str) -> None:
    with pytest.raises(ValueError, match="is an operator of the shell: no shell reads this line; put it into a script"):
        check(["bin/report", word, "x"])


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        ([], "a program and its arguments"),
        ("bin/report", "a program and its arguments"),
        ([1], "a program and its arguments"),
        ([""], "'' is no program"),
        (["-x"], "'-x' is no program"),
        (["A=1", "x"], "'A=1' sets a variable"),
        (["cd", "/srv"], "'cd' is a word of the shell"),
        ([".", "x"], "'.' is a word of the shell"),
        (["if", "x"], "'if' is a word of the shell"),
        (["(", "x", ")"], "'(' is a word of the shell"),
        (["x", "a\nb"], "is not one line of printable text"),
        (["x", "a\0b"], "is not one line of printable text"),
        (["x", "\x1b[2J"], "is not one line of printable text"),
        (["x", "\u202e"], "is not one line of printable text"),
        (["x", 1025 * "a"], "is not one line of printable text"),
        (65 * ["x"], "has more than 64 words"),
    ],
)
def test_other_refusals(argv: object, said: str) -> None:
    with pytest.raises(ValueError) as caught:
        check(argv)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("bin/report --all", ["bin/report", "--all"]),
        ("  a\t b  ", ["a", "b"]),
        ("""a 'b c' "d e" f\\ g ''""", ["a", "b c", "d e", "f g", ""]),
        ("""a "it's" 'say "x"' x'y'"z" """, ["a", "it's", 'say "x"', "xyz"]),
        (r'a "\$b \" \\ \n" \$', ["a", r"$b " + r'" \ \n', "$"]),
        ("a 'x|y' \"p > q; r\" '*.py' '$HOME' '`x`'", ["a", "x|y", "p > q; r", "*.py", "$HOME", "`x`"]),
        (r"date +\%F", ["date", "+%F"]),
        (r"find \( -name x \)", ["find", "(", "-name", "x", ")"]),
        ("a b#c # and a comment", ["a", "b#c"]),
        ("a x~ b=c", ["a", "x~", "b=c"]),
    ],
)
def test_lines_of_crontabs(line: str, words: list[str]) -> None:
    assert split(line) == tuple(words)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("a | b", "has `|`"),
        ("a|b", "has `|`"),
        ("a && b", "has `&`"),
        ("cd /srv && a", "has `&`"),
        ("a; b", "has `;`"),
        ("a > /dev/null", "has `>`"),
        ("a 2>&1", "has `>`"),
        ("a < b", "has `<`"),
        ("(a)", "has `(`"),
        ("a $HOME", "has `$`"),
        ('a "$HOME"', "has `$`"),
        ("a `b`", "has a backtick"),
        ('a "`b`"', "has a backtick"),
        ("a *.log", "has `*`"),
        ("a b?", "has `?`"),
        ("a [b]", "has `[`"),
        ("a ~/b", "has `~`"),
        ("date +%F", "has a `%`"),
        ("date '+%F'", "has a `%`"),
        ("A=1 b", "'A=1' sets a variable"),
        ("cd /srv", "'cd' is a word of the shell"),
        ("a '|'", "'|' is an operator"),
        ("a 'b", "has a quote that is not closed"),
        ('a "b', "has a quote that is not closed"),
        ("a \\", "ends in a backslash"),
        ("a\nb", "has control characters"),
        ("", "a program and its arguments"),
        ("# nothing", "a program and its arguments"),
    ],
)
def test_lines_that_need_a_shell(line: str, said: str) -> None:
    with pytest.raises(ValueError) as caught:
        split(line)
    assert said in str(caught.value)


@settings(deadline=None)
@given(st.text(alphabet="ab1=-'\"\\ #~$`|&;<>()*?[]{}!^,.:/\té", min_size=1, max_size=24))
def test_a_line_that_is_taken_is_what_a_shell_reads(line: str) -> None:
    try:
        words = split("printf " + line)
    except ValueError:
        return
    assume(len(words) > 1)
    shell = ["/bin/sh", "-c", "p() { for w; do printf '%s\\n' \"$w\"; done; }; p " + line]
    found = subprocess.run(shell, capture_output=True, text=True, cwd="/proc/self/fdinfo", check=True)
    assert found.stdout == "".join(f"{word}\n" for word in words[1:])


@given(st.lists(st.text(alphabet="abc '\"\\$*|;>é#~", max_size=6), min_size=1, max_size=4))
def test_words_that_are_shown_can_be_read_again(words: list[str]) -> None:
    argv = ["x", *words]
    try:
        check(argv)
    except ValueError:
        return
    assert split(quoted(argv)) == tuple(argv)
