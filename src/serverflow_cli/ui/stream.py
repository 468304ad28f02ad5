"""Output that comes in pieces: servers send chunks of bytes, people read lines."""

from __future__ import annotations

from collections.abc import Iterator

#: A line that has not ended by then is shown as it is: nobody may fill our memory with one.
LONGEST = 65536


class Lines:
    """Puts the pieces of several streams together again, line by line."""

    def __init__(self) -> None:
        self._rest: dict[str, str] = {}

    def feed(self, stream: str, text: str) -> list[str]:
        """The lines of a stream that are complete now."""
        *lines, rest = (self._rest.pop(stream, "") + text).split("\n")
        if len(rest) > LONGEST:
            return [*lines, rest]
        if rest:
            self._rest[stream] = rest
        return lines

    def end(self) -> Iterator[tuple[str, str]]:
        """The last line of each stream that did not end with a newline."""
        while self._rest:
            yield self._rest.popitem()
