"""Where a command reads and writes, and what that place can show."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TextIO

from .text import clean, clean_block

_STYLES = {"bold": "1", "dim": "2", "red": "31", "green": "32", "yellow": "33", "cyan": "36"}


@dataclass(frozen=True)
class Terminal:
    """The three streams. stdout carries results only; everything else goes to stderr.

    `colour` is the wish: it applies to a stream only when that stream is a terminal.
    """

    stdin: TextIO
    stdout: TextIO
    stderr: TextIO
    colour: bool = True
    columns: int = 80

    @property
    def shows_results(self) -> bool:
        """Whether a person reads stdout."""
        return self.stdout.isatty()

    @property
    def shows_progress(self) -> bool:
        """Whether a person reads stderr."""
        return self.stderr.isatty()

    @property
    def interactive(self) -> bool:
        """Whether a question can be asked and answered."""
        return self.stdin.isatty() and self.stderr.isatty()

    def out(self, text: str = "") -> None:
        print(text, file=self.stdout)

    def err(self, text: str = "") -> None:
        print(text, file=self.stderr, flush=True)

    def text(self, text: str, heading: str = "") -> None:
        """Text of several lines as it is, but for what could drive the terminal; below a heading as head(1) has it."""
        if heading:
            self.out(f"==> {clean(heading)} <==")
        if text:
            self.out(clean_block(text).removesuffix("\n"))

    def style(self, text: str, style: str, stream: TextIO) -> str:
        """`text` in a colour or weight where `stream` can show it."""
        if not text or not self.colour or not stream.isatty():
            return text
        return f"\x1b[{_STYLES[style]}m{text}\x1b[0m"


def process_terminal(environ: Mapping[str, str], *, no_colour: bool) -> Terminal:
    """The streams of this process. NO_COLOR (no-color.org) and TERM=dumb switch colour off."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # a C locale must not turn a server's umlaut into a crash
            stream.reconfigure(errors="backslashreplace")
    colour = not no_colour and not environ.get("NO_COLOR") and environ.get("TERM") != "dumb"
    return Terminal(sys.stdin, sys.stdout, sys.stderr, colour, _columns())


def _columns() -> int:
    try:
        return os.get_terminal_size(sys.stdout.fileno()).columns or 80
    except (OSError, ValueError):
        return 80
