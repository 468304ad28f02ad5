"""A program and its arguments, where people are used to a shell. There is none: what only a shell would do is refused,
with the reason.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

LONGEST = 1024
MOST = 64

_NO_SHELL = "no shell reads this line; put it into a script of the app"
#: POSIX.1-2024, XCU 2.7 and 2.10.2, as whole words; redirections with their target too.
_OPERATOR = re.compile(r"[|&;]+|[0-9]?(?:[<>]+[|&]?|&>>?)(?:[0-9]|-|/.*)?|&>>?(?:/.*)?", re.ASCII)
_ASSIGNMENT = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\+?=", re.ASCII)
#: XCU 2.4 and 2.15, and what else exists within a shell alone.
_OF_THE_SHELL = frozenset(
    {
        ".", ":", "!", "(", ")", "{", "}", "[[", "alias", "bg", "break", "builtin", "case", "cd", "command", "continue",
        "declare", "do", "done", "elif", "else", "esac", "eval", "exec", "exit", "export", "fg", "fi", "for",
        "function", "if", "jobs", "let", "local", "read", "readonly", "return", "select", "set", "shift", "source",
        "then", "times", "trap", "typeset", "ulimit", "umask", "unalias", "unset", "until", "wait", "while",
    }
)  # fmt: skip


def check(argv: Any) -> tuple[str, ...]:
    """The same words. Raises ValueError for what a shell would have to read."""
    if not isinstance(argv, (list, tuple)) or not argv or not all(isinstance(word, str) for word in argv):
        raise ValueError("must be a program and its arguments")
    if len(argv) > MOST:
        raise ValueError(f"has more than {MOST} words")
    for word in argv:
        if not word.isprintable() or len(word) > LONGEST:
            raise ValueError(f"{word[:60]!a} is not one line of printable text, at most {LONGEST} characters")
        if _OPERATOR.fullmatch(word):
            raise ValueError(f"{word[:60]!a} is an operator of the shell: {_NO_SHELL}")
    _check_program(argv[0])
    return tuple(argv)


def _check_program(word: str) -> None:
    if not word or word.startswith("-"):
        raise ValueError(f"{word[:60]!a} is no program")
    if _ASSIGNMENT.match(word):
        raise ValueError(f"{word[:60]!a} sets a variable: {_NO_SHELL}, or use env(1)")
    if word in _OF_THE_SHELL:
        raise ValueError(f"{word!a} is a word of the shell: {_NO_SHELL}")


def split(text: str) -> tuple[str, ...]:
    """The words of a command line of crontab(5), as its shell would pass them on. Raises ValueError with the reason
    where the shell, or cron itself, would do more than that.
    """
    words: list[str] = []
    word: str | None = None
    at = 0
    line = _without_percent(text)
    while at < len(line):
        char = line[at]
        if char in " \t":
            if word is not None:
                words.append(word)
            word = None
            at += 1
            continue
        if char == "#" and word is None:
            break  # a comment
        part, at = _part(line, at, word is None)
        word = (word or "") + part
    return check([*words, *([] if word is None else [word])])


def _without_percent(text: str) -> str:
    """crontab(5): a `%` ends the command, and what follows is its input, unless a backslash is before it, which cron
    takes away.
    """
    if not text.replace("\t", " ").isprintable():
        raise ValueError("has control characters")
    if re.search(r"(?<!\\)%", text):
        raise ValueError(f"has a `%`, after which cron sends the rest as input: {_NO_SHELL}")
    return text.replace("\\%", "%")


def _part(line: str, at: int, begins: bool) -> tuple[str, int]:
    """What comes next of a word, and where it ends."""
    char = line[at]
    if char == "'":
        end = line.find("'", at + 1)
        if end < 0:
            raise ValueError("has a quote that is not closed")
        return line[at + 1 : end], end + 1
    if char == '"':
        return _double_quoted(line, at + 1)
    if char == "\\":
        if at + 1 == len(line):
            raise ValueError("ends in a backslash")
        return line[at + 1], at + 2
    _refuse_special(char, begins)
    return char, at + 1


def _double_quoted(line: str, at: int) -> tuple[str, int]:
    out = ""
    while at < len(line):
        char = line[at]
        if char == '"':
            return out, at + 1
        if char == "\\" and line[at + 1 : at + 2] in ("$", "`", '"', "\\"):
            at += 1
            char = line[at]
        elif char in "$`":
            _refuse_special(char, False)
        out += char
        at += 1
    raise ValueError("has a quote that is not closed")


def _refuse_special(char: str, begins: bool) -> None:
    if char in "|&;<>()":
        raise ValueError(f"has `{char}`, an operator of the shell: {_NO_SHELL}")
    if char == "$":
        raise ValueError(f"has `$`, which the shell replaces: {_NO_SHELL}")
    if char == "`":
        raise ValueError(f"has a backtick, which the shell replaces: {_NO_SHELL}")
    if char in "*?[":
        raise ValueError(f"has `{char}`, which the shell replaces by names of files: {_NO_SHELL}")
    if char == "~" and begins:
        raise ValueError(f"has `~`, which the shell replaces by a home: {_NO_SHELL}")


def quoted(argv: Sequence[str]) -> str:
    """The words as one line for people, such that `split` gives them back where it can."""
    import shlex

    return shlex.join(argv)
