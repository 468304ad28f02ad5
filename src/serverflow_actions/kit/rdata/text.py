"""TXT (RFC 1035 section 3.3.14) and CAA (RFC 8659 section 4.1)."""

from __future__ import annotations

import re

from .numbers import fields, number
from .strings import quote, quoted

#: Octets of one string, RFC 1035 section 3.3; and of a TXT value with the length of each: far below the 65535 of DNS,
#: and so long that escaped it is still a line that can be read again.
_STRING, _LONGEST = 255, 16_000


def txt(raw: str) -> str:
    """`"…" "…"`, each string of at most 255 octets. What begins with a quote is strings with escapes already; all else
    is plain text, of which every character counts. Text is UTF-8.
    """
    if not raw:
        raise ValueError('there is no text; an empty string is written ""')
    strings = quoted(raw) if raw.startswith('"') else [raw.encode()]
    pieces = [
        string[at : at + _STRING] for string in strings for at in range(0, len(string) or 1, _STRING)
    ]  # an empty string is a piece too
    if sum(len(piece) + 1 for piece in pieces) > _LONGEST:
        raise ValueError(f"{raw[:60]!a} goes on for more than {_LONGEST} octets")
    return " ".join(map(quote, pieces))


def joined(value: str) -> str:
    """The text of a canonical TXT value, its strings joined as SPF and DKIM do (RFC 7208 section 3.3)."""
    return b"".join(quoted(value)).decode("utf-8", "replace")


def caa(raw: str) -> str:
    """`0 issue "letsencrypt.org"`; the quotes may be left out."""
    flags, tag, rest = fields(raw, 3, 'FLAGS TAG "VALUE", such as 0 issue "letsencrypt.org"')
    if not re.match(r"[A-Za-z0-9]{1,15}\Z", tag, re.ASCII):
        raise ValueError(f"{tag[:60]!a} is not a tag such as issue, issuewild or iodef")
    octets = quoted(rest if rest.startswith('"') else _in_quotes(rest))
    if len(octets) != 1 or len(octets[0]) > _LONGEST:
        raise ValueError(f"{rest[:60]!a} is not one string in quotes")
    return f"{number(flags, 8, 'flags')} {tag.lower()} {quote(octets[0])}"


def property_of(value: str) -> tuple[int, str, str]:
    """Flags, tag and text of a canonical CAA value."""
    flags, tag, text = value.split(" ", 2)
    return int(flags), tag, joined(text)


def _in_quotes(word: str) -> str:
    if re.search(r'[ "\\]', word):
        raise ValueError(f"{word[:60]!a} needs quotes")
    return f'"{word}"'
