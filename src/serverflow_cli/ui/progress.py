"""What is going on, on stderr: one line for each server in flight, from the second second on."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

from .terminal import Terminal
from .text import clean

APPEARS_AFTER_S = 1.0
REDRAW_S = 0.1
_SPINNER = "|/-\\"
_WORDS = {"connect": "connecting", "done": "done"}


class Progress:
    """Hears the events of flows. Silent unless stderr is a terminal; with `verbose`, each event is a line anywhere."""

    def __init__(self, terminal: Terminal, *, verbose: bool, clock: Callable[[], float] = time.monotonic) -> None:
        self._terminal = terminal
        self._verbose = verbose
        self._clock = clock
        self._started = clock()
        self._in_flight: dict[str, str] = {}
        self._drawn = 0
        self._paused = False
        #: What servers are at: the operation, and whether it is a safe change that nobody has confirmed.
        self.begun: dict[str, tuple[str, bool]] = {}
        #: What else whoever ends the command in the middle has to know.
        self.left: list[str] = []
        #: All servers that were heard of.
        self.servers: set[str] = set()

    def report(self, event: Mapping[str, Any]) -> None:
        """Take in one event; see model/result.py."""
        kind, server = str(event.get("t", "")), str(event.get("server", ""))
        text = str(event.get("doing") or event.get("text") or _WORDS.get(kind, ""))
        if server:
            self.servers.add(server)
        if kind == "op":
            self.begun[server] = (str(event.get("op", "")), bool(event.get("safe")))
        elif kind == "left":
            self.left.append(text)
        elif kind == "note":
            self._line("sf: note: " + (f"{clean(server)}: " if server else "") + clean(text))
        elif self._verbose and text:
            self._line(f"{clean(server) or 'sf'}: {clean(text)}")
        if kind in ("confirmed", "done"):
            self.begun.pop(server, None)
        if kind == "done":
            self._in_flight.pop(server, None)
        elif server and text and kind != "note":
            self._in_flight[server] = text

    def lines(self) -> list[str]:
        """What the live display shows now; empty in the first second."""
        elapsed = self._clock() - self._started
        if elapsed < APPEARS_AFTER_S:
            return []
        spin = _SPINNER[int(elapsed / REDRAW_S) % len(_SPINNER)]
        width = self._terminal.columns - 1
        return [f"{spin} {clean(name)}: {clean(doing)}"[:width] for name, doing in self._in_flight.items()]

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Keep the display away while a question is asked; waiting for an answer is not work."""
        self.erase()
        self._paused = True
        try:
            yield
        finally:
            self._paused = False
            self._started = self._clock()

    async def animate(self) -> None:
        """Redraw until cancelled, and leave nothing behind."""
        import asyncio  # help and errors of usage never get here

        if self._verbose or not self._terminal.shows_progress:
            return
        try:
            while True:
                self._redraw()
                await asyncio.sleep(REDRAW_S)
        finally:
            with suppress(OSError):
                self.erase()

    def _redraw(self) -> None:
        if self._paused:
            return
        self.erase()
        lines = self.lines()
        for line in lines:
            self._terminal.err(self._terminal.style(line, "dim", self._terminal.stderr))
        self._drawn = len(lines)

    def erase(self) -> None:
        """Take the display away until the next redraw."""
        if self._drawn:
            self._terminal.stderr.write(f"\x1b[{self._drawn}A\x1b[J")
            self._terminal.stderr.flush()
            self._drawn = 0

    def _line(self, text: str) -> None:
        self.erase()
        self._terminal.err(text)
