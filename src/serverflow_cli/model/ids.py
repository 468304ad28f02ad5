"""Operation ids: ULIDs (github.com/ulid/spec), which sort by time and need no coordination."""

from __future__ import annotations

import os
import time
from collections.abc import Callable

from serverflow_actions.kit import grammar

#: Crockford's base 32: without I, L, O and U, which people misread.
_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"


def new_ulid(clock_ns: Callable[[], int] = time.time_ns, entropy: Callable[[int], bytes] = os.urandom) -> str:
    """A new id: 48 bits of Unix time in milliseconds, then 80 random bits."""
    milliseconds = clock_ns() // 1_000_000 & (1 << 48) - 1
    number = milliseconds << 80 | int.from_bytes(entropy(10), "big")
    return "".join(_ALPHABET[number >> shift & 31] for shift in range(125, -1, -5))


def is_ulid(text: str) -> bool:
    """Whether this is an id as `new_ulid` writes it: 26 characters, upper case."""
    try:
        grammar.ulid(text)
    except ValueError:
        return False
    return True


def ulid_time_ms(ulid: str) -> int:
    """When the id was made, in milliseconds since the Unix epoch. Raises ValueError for what is no id."""
    number = 0
    for character in grammar.ulid(ulid)[:10]:
        number = number << 5 | _ALPHABET.index(character)
    return number
