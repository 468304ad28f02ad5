"""What the verbs of this area share: names, and what a channel of each provider is made of.

The server reads the file again with remote/channels.py, which is as strict: root may have written there by hand.
"""

from __future__ import annotations

import base64
import binascii
import re
from typing import Any, Callable
from urllib.parse import urlsplit

from ..kit import Params, Refused, grammar
from ..kit.spec import Param, param
from ..kit.watching import CHANNELS

NAME: Param = param("name", "name", "Channel name", positional=True, complete="channel")

#: What a provider must have, and what it may have.
PROVIDERS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "slack": (("url",), ()),
    "webhook": (("url", "secret"), ()),
    "smtp": (("host", "sender", "to"), ("port", "security", "username", "password")),
    "resend": (("token", "sender", "to"), ()),
}
#: RFC 8314, section 3.3, and RFC 5321.
PORTS = {"starttls": 587, "tls": 465, "none": 25}
RECIPIENTS = 50
_MAILBOX = re.compile(r"[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]{1,64}@[A-Za-z0-9.-]{1,190}\Z")
_WORD = re.compile(r"[!-~]{1,500}\Z")
_LOOPBACK = re.compile(r"localhost|127(?:\.[0-9]{1,3}){3}|::1")


def path(name: str) -> str:
    return f"{CHANNELS}/{name}.json"


def settings(params: Params) -> dict[str, Any]:
    """What the channel's file gets, checked. Raises Refused, and no message shows a value that may be secret."""
    must, may = PROVIDERS[params.provider]
    every = {key for both in PROVIDERS.values() for keys in both for key in keys}
    given = {key: value for key in sorted(every) for value in [getattr(params, key)] if value}
    missing, foreign = [key for key in must if key not in given], sorted(set(given) - {*must, *may})
    if missing:
        raise Refused(f"a channel of {params.provider} needs {', '.join(missing)}")
    if foreign:
        raise Refused(f"a channel of {params.provider} has no {', '.join(foreign)}")
    for key, value in given.items():
        try:
            given[key] = _CHECKS.get(key, lambda as_it_is: as_it_is)(value)
        except ValueError as error:
            raise Refused(f"{key} {error}") from None
    return _server(given) if params.provider == "smtp" else given


def _server(given: dict[str, Any]) -> dict[str, Any]:
    security = given.get("security", "starttls")
    if security == "none" and not _LOOPBACK.fullmatch(given["host"]):
        raise Refused("security can be none for this machine's own mail server only")
    if ("username" in given) != ("password" in given):
        raise Refused("a login is a username and a password")
    return {**given, "security": security, "port": given.get("port", PORTS[security])}


def _url(raw: str) -> str:
    """https, and http to this machine itself."""
    try:
        parts = urlsplit(raw)
        host, _ = parts.hostname, parts.port
    except ValueError:
        host = None
    if not host or "@" in parts.netloc or not re.match(r"https?://[!-~]+\Z", raw):
        raise ValueError("is not an https URL without a login")
    if parts.scheme == "http" and not _LOOPBACK.fullmatch(host):
        raise ValueError("is not an https URL")
    return raw


def _signing_secret(raw: str) -> str:
    """The Standard Webhooks specification: `whsec_` and the base64 of 24 to 64 bytes."""
    try:
        key = base64.b64decode(raw[6:], validate=True) if raw.startswith("whsec_") else b""
    except binascii.Error:
        key = b""
    if not 24 <= len(key) <= 64:
        raise ValueError("is not whsec_ and the base64 of 24 to 64 bytes")
    return raw


def _host(raw: str) -> str:
    try:
        is_address = ":" in raw or raw.rpartition(".")[2].isdigit()
        return str(grammar.address(raw) if is_address else grammar.hostname(raw.lower()))
    except ValueError:
        raise ValueError("is not a host name or an address") from None


def _line(raw: str) -> str:
    if not raw.isprintable() or len(raw) > 500:
        raise ValueError("is not one line of printable text")
    return raw


def _login(raw: str) -> str:
    """smtplib encodes it so, and mail servers disagree about anything else."""
    if not raw.isascii():
        raise ValueError("has characters other than ASCII, and a login to a mail server cannot have them here")
    return _line(raw)


def _word(raw: str) -> str:
    if not _WORD.match(raw):
        raise ValueError("is not one word of printable ASCII")
    return raw


def _mailbox(raw: str) -> str:
    if not _MAILBOX.match(raw):
        raise ValueError("has what is not a mail address")
    return raw


def _recipients(raw: list[str]) -> list[str]:
    found = list(dict.fromkeys(map(_mailbox, raw)))
    if len(found) > RECIPIENTS:
        raise ValueError(f"has more than {RECIPIENTS} addresses")
    return found


_CHECKS: dict[str, Callable[[Any], Any]] = {
    "url": _url, "secret": _signing_secret, "token": _word, "host": _host, "username": _login, "password": _login,
    "sender": _mailbox, "to": _recipients,
}  # fmt: skip
