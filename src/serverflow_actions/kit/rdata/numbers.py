"""Fields, whole numbers and hexadecimal data of values."""

from __future__ import annotations

import re
from collections.abc import Mapping


def fields(raw: str, count: int, form: str) -> list[str]:
    """The words of a value; the last one is all that follows. Raises ValueError, naming the form."""
    words = raw.strip(" ").split(maxsplit=count - 1) if raw.isascii() else []
    if len(words) != count:
        raise ValueError(f"{raw[:60]!a} is not of the form {form}")
    return words


def number(word: str, bits: int, what: str) -> int:
    """A whole number of so many bits, in decimal."""
    if not re.match(r"[0-9]{1,10}\Z", word, re.ASCII) or int(word) >= 1 << bits:
        raise ValueError(f"{word[:60]!a} is not {what} (0 to {(1 << bits) - 1})")
    return int(word)


def hexadecimal(word: str, what: str, octets: int = 0) -> str:
    """In lower case without spaces; of so many octets, unless that is 0."""
    text = word.replace(" ", "").lower()
    if not re.match(r"(?:[0-9a-f]{2})+\Z", text, re.ASCII):
        raise ValueError(f"{word[:60]!a} is not {what} in hexadecimal")
    if octets and len(text) != 2 * octets:
        raise ValueError(f"{word[:60]!a} is not {what}: that has {2 * octets} hexadecimal digits, not {len(text)}")
    return text


def digest(word: str, kind: int, lengths: Mapping[int, int]) -> str:
    """A hash, whose length is known for the usual kinds."""
    return hexadecimal(word, "a hash" if kind not in lengths else f"a hash of kind {kind}", lengths.get(kind, 0))
