"""What operators expect of a server, as data: one line a check, the same grammar in fleet.toml and on the server."""

from __future__ import annotations

import re
from typing import Any, NamedTuple

from . import grammar

LONGEST = 1024
FORMS = "tcp HOST:PORT, http URL STATUS, unit NAME active|inactive, dns NAME A|AAAA"

#: RFC 3986, section 3, without userinfo and fragment. Between the slashes is what `_place` checks.
_URL = re.compile(r"(https?)://([^/?#@]+)(?:[/?][A-Za-z0-9._~:/?\[\]@!$&'()*+,;=%-]*)?\Z", re.ASCII)


class Check(NamedTuple):
    """`kind` is tcp, http, unit or dns; `target` the place, URL, unit or name; `expected` the status, state or record
    type, "" for tcp.
    """

    kind: str
    target: str
    expected: str = ""


def parse(text: Any) -> Check:
    """One check: words with one space between. Raises ValueError with a sentence."""
    if not isinstance(text, str) or len(text) > LONGEST or not (text.isascii() and text.isprintable()):
        raise ValueError(f"must be one line of printable ASCII, at most {LONGEST} characters")
    kind, *words = text.split(" ")
    if kind == "tcp" and len(words) == 1:
        place(words[0])
        return Check(kind, words[0])
    if kind == "http" and len(words) == 2:
        return Check(kind, _url(words[0]), _one_of(words[1], r"[1-5][0-9]{2}", "an HTTP status such as 200"))
    if kind == "unit" and len(words) == 2:
        return Check(kind, grammar.unit(words[0]), _one_of(words[1], "active|inactive", "active or inactive"))
    if kind == "dns" and len(words) == 2:
        return Check(kind, grammar.hostname(words[0]), _one_of(words[1], "A|AAAA", "A or AAAA"))
    raise ValueError(f"{text[:60]!a} is not a check ({FORMS})")


def place(text: str) -> tuple[str, int]:
    """Host and port of `HOST:PORT`; an IPv6 address stands in brackets, and comes back without. Raises ValueError."""
    host, colon, port = text.rpartition(":")
    if not colon:
        raise ValueError(f"{text[:60]!a} is not HOST:PORT")
    return _host(host), grammar.port(port)


def _host(text: str) -> str:
    if text.startswith("[") and text.endswith("]") and ":" in text:
        return grammar.address(text[1:-1])
    if text.rpartition(".")[2].isdigit():  # no top-level domain is all digits (RFC 3696, section 2)
        return grammar.address(text)
    return grammar.hostname(text)


def _url(text: str) -> str:
    found = _URL.match(text)
    if not found:
        raise ValueError(f"{text[:60]!a} is not an http or https URL without user name and fragment")
    authority = found.group(2)
    if re.search(r":[0-9]+\Z", authority) and not authority.endswith("]"):
        place(authority)
    else:
        _host(authority)
    return text


def _one_of(text: str, pattern: str, what: str) -> str:
    if not re.fullmatch(pattern, text):
        raise ValueError(f"{text[:60]!a} is not {what}")
    return text
