"""What the checks of all kinds share: a file's lines, and the refusal of one of them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from ..kit import Refused

_LONGEST = 1000


def statements(content: str, comments: str = "#") -> Iterator[tuple[int, str]]:
    """The lines that say something, each with its number, without blanks around. Raises Refused.

    A backslash is refused everywhere, also at the end of a comment: some formats take the next line to it.
    """
    # Only "\n" ends a line: splitlines() would also end it where the program that reads the file does not.
    for number, raw in enumerate(content.split("\n"), 1):
        line = raw.strip(" \t")
        if not line.replace("\t", " ").isprintable() or len(line) > _LONGEST:
            raise refusal(number, f"has a character that cannot be printed, or is longer than {_LONGEST}")
        if "\\" in line:
            raise refusal(number, "has a backslash")
        if line and line[0] not in comments:
            yield number, line


def refusal(number: int, why: str) -> Refused:
    """What a check raises: the line and the reason."""
    return Refused(f"line {number}: {why}")


def check_value(number: int, key: str, value: str, allowed: Mapping[str, str]) -> None:
    """The value of a known key matches its pattern, as a whole and in ASCII. Raises Refused."""
    pattern = allowed.get(key)
    if pattern is None:
        raise refusal(number, f"{key[:60]} is not among what may be set here")
    if not re.match(rf"(?:{pattern})\Z", value, re.ASCII):
        raise refusal(number, f"{value[:60]} is no value that {key} may have here")
