"""Character strings (RFC 1035 section 5.1): quoted, with escapes, and what octets they stand for."""

from __future__ import annotations

import re

_QUOTED = r'"((?:[^"\\]|\\[0-9]{3}|\\[^0-9])*)"'
_ESCAPE = r"\\(?:([0-9]{3})|(.))"


def quote(octets: bytes) -> str:
    """As PowerDNS and dnspython write it: printable ASCII as it is, `"` and `\\` escaped, all else as `\\DDD`."""
    return '"' + "".join(_escaped(octet) for octet in octets) + '"'


def quoted(text: str) -> list[bytes]:
    """The octets of each of some quoted strings with spaces between them. Raises ValueError."""
    found, at = [], 0
    string = re.compile(_QUOTED + r"(?: +|\Z)")
    while at < len(text):
        match = string.match(text, at)
        if not match:
            raise ValueError(f'{text[at : at + 60]!a} is not a string in quotes, with \\" for a quote in it')
        found.append(unescaped(match.group(1)))
        at = match.end()
    return found


def unescaped(text: str) -> bytes:
    """The octets, text as UTF-8. Raises ValueError for an escape that is none."""

    def plain(match: re.Match[str]) -> str:
        number, character = match.groups()
        code = int(number) if number else ord(character)
        if code > 255 or (character and code > 126):
            raise ValueError(f"{match.group()!a} is not an escape: \\DDD goes to \\255")
        return chr(code)

    # A piece between escapes is text; what an escape stands for is one octet.
    octets, at = [], 0
    for match in re.finditer(_ESCAPE, text):
        octets += [text[at : match.start()].encode(), plain(match).encode("latin-1")]
        at = match.end()
    rest = text[at:]
    if "\\" in rest:
        raise ValueError("a backslash at the end escapes nothing")
    return b"".join([*octets, rest.encode()])


def _escaped(octet: int) -> str:
    if octet in b'"\\':
        return "\\" + chr(octet)
    return chr(octet) if 32 <= octet < 127 else f"\\{octet:03d}"
