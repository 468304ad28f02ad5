"""Where each key and value of a TOML text stands. tomllib and tomlkit tell no positions.

The text must be valid TOML (toml.io/en/v1.0.0): this is a reader of spans, not a second parser.
"""

from __future__ import annotations

import re
import tomllib
from bisect import bisect_left
from dataclasses import dataclass

from .keypath import Path


@dataclass(frozen=True)
class Span:
    """A key or a value: text[start:end] is how it is written."""

    path: Path
    start: int
    end: int


@dataclass(frozen=True)
class Section:
    """A header and the statements under it, up to the next header. The root section has the path () and no header.

    `statements` are whole lines, from the first column to behind the newline. `end` lies behind the last of them;
    `glued_end` also behind comments right under it. Comments after a blank line, or right above the next header,
    belong to what follows.
    """

    path: Path
    start: int
    end: int
    glued_end: int
    statements: tuple[Span, ...]


@dataclass(frozen=True)
class Scan:
    """All spans in the order of the text.

    `keys` has every occurrence, also the parts of headers and dotted keys; an element of a [[list]] has an empty span.
    """

    keys: tuple[Span, ...]
    values: dict[Path, Span]
    sections: tuple[Section, ...]
    lines: dict[Path, int]

    def line(self, path: Path) -> int:
        """The line, from 1, on which a path begins; its nearest parent's when the path does not exist."""
        while path and path not in self.lines:
            path = path[:-1]
        return self.lines.get(path, 1)


def scan(text: str) -> Scan:
    """Find every key and value."""
    return _Scanner(text).scan()


_BLANK = re.compile(r"(?:[ \t\r\n\ufeff]|#[^\n]*)*")
_SPACE = re.compile(r"[ \t]*")
_REST_OF_LINE = re.compile(r"[^\n]*\n?")
_GLUED = re.compile(r"(?:[ \t]*#[^\n]*(?:\n|\Z))*(?=[ \t\r]*(?:\n|\Z))")
_KEY = re.compile(r"""[A-Za-z0-9_-]+|"(?:[^"\\]|\\.)*"|'[^']*'""")
_SCALAR = re.compile(
    r'''"""(?:[^\\]|\\.)*?"""(?:"{0,2})|"(?:[^"\\]|\\.)*"'''  # a closing """ may have one or two quotes before it
    r"""|'''.*?'''(?:'{0,2})|'[^']*'"""
    r"""|[^\s,\]}#](?:[^,\]}#\n]*[^\s,\]}#])?""",
    re.DOTALL,
)


class _Scanner:
    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._keys: list[Span] = []
        self._values: dict[Path, Span] = {}
        self._lists: dict[Path, int] = {}  # the index of the latest [[header]] of each list

    def scan(self) -> Scan:
        sections: list[Section] = []
        path: Path = ()
        start = end = 0
        statements: list[Span] = []
        while not self._done():
            begin = self._text.rfind("\n", 0, self._at) + 1
            if self._text[self._at] == "[":
                sections.append(self._section(path, start, end, statements))
                path, start, statements = self._header(), begin, []
                self._skip(_REST_OF_LINE)
            else:
                target = self._pair(path)
                self._skip(_REST_OF_LINE)
                statements.append(Span(target, begin, self._at))
            end = self._at
        sections.append(self._section(path, start, end, statements))
        return Scan(tuple(self._keys), self._values, tuple(sections), self._lines())

    def _section(self, path: Path, start: int, end: int, statements: list[Span]) -> Section:
        glued = _GLUED.match(self._text, end)
        return Section(path, start, end, glued.end() if glued else end, tuple(statements))

    def _lines(self) -> dict[Path, int]:
        newlines = [match.start() for match in re.finditer("\n", self._text)]
        lines: dict[Path, int] = {}
        for span in sorted((*self._keys, *self._values.values()), key=lambda span: span.start):
            lines.setdefault(span.path, bisect_left(newlines, span.start) + 1)
        return lines

    def _done(self) -> bool:
        self._skip(_BLANK)
        return self._at >= len(self._text)

    def _skip(self, pattern: re.Pattern[str]) -> None:
        match = pattern.match(self._text, self._at)
        self._at = match.end() if match else self._at

    def _here(self, character: str) -> bool:
        """Step over a character if it is the next one."""
        found = self._text.startswith(character, self._at)
        self._at += len(character) * found
        return found

    def _header(self) -> Path:
        is_list = self._text.startswith("[[", self._at)
        self._at += 1 + is_list
        path = self._key((), header=True)
        if is_list:
            index = self._lists[path] = self._lists.get(path, -1) + 1
            element = (*path, index)
            self._keys.append(Span(element, self._at, self._at))
            return element
        return path

    def _latest(self, path: Path) -> Path:
        """A header that leads through a [[list]] means its latest element."""
        return (*path, self._lists[path]) if path in self._lists else path

    def _key(self, parent: Path, *, header: bool = False) -> Path:
        """A dotted key; the path that it leads to."""
        path = parent
        while True:
            self._skip(_SPACE)
            if header:
                path = self._latest(path)
            match = _KEY.match(self._text, self._at)
            if match is None:
                raise ValueError("scan was given text that is not TOML")
            token = match.group()
            name = token if token[0] not in "\"'" else next(iter(tomllib.loads(f"{token}=0")))
            path = (*path, name)
            self._keys.append(Span(path, self._at, match.end()))
            self._at = match.end()
            self._skip(_SPACE)
            if not self._here("."):
                return path

    def _pair(self, parent: Path) -> Path:
        path = self._key(parent)
        self._here("=")
        self._value(path)
        return path

    def _value(self, path: Path) -> None:
        self._skip(_BLANK)
        start = self._at
        if self._here("["):
            index = 0
            while self._more("]"):
                self._value((*path, index))
                index += 1
        elif self._here("{"):
            while self._more("}"):
                self._pair(path)
        else:
            self._skip(_SCALAR)
        self._values[path] = Span(path, start, self._at)

    def _more(self, closing: str) -> bool:
        """Step over blanks and a comma to the next element, or over the closing bracket."""
        self._skip(_BLANK)
        self._here(",")
        self._skip(_BLANK)
        return not self._here(closing)
