"""The channels by which this server sends alerts: a file each, root's alone, since its secrets are in it.

/etc/serverflow/notify/NAME.json is {"v": 1, "name", "provider", "server", "rules": [...], "settings": {...}}; `server`
is the name that operators have for this server, `settings` is what _SETTINGS says.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import os
import re
from collections.abc import Mapping
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import layout
import store
import strict
from serverflow_actions.kit import grammar

LIMIT = 64 << 10
RECIPIENTS = 50  # Resend takes no more in one message

_URL = strict.text(r"https?://[!-~]{1,2000}", "an https URL")
_HOST = strict.text(r"[A-Za-z0-9.:_-]{1,253}", "a host name or address")
_WORD = strict.text(r"[!-~]{1,500}", "printable ASCII without spaces")
_LOGIN = strict.text(r"[^\x00-\x1f\x7f]{0,500}", "one line")
_ADDRESS = r"[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]{1,64}@[A-Za-z0-9.-]{1,190}"  # without quoting: RFC 5322, 3.4.1
MAILBOX = strict.text(_ADDRESS, "a mail address")
_SENDER = strict.text(rf"{_ADDRESS}|[A-Za-z0-9 ._-]{{1,60}} <{_ADDRESS}>", "a mail address, or NAME <ADDRESS>")
_LOOPBACK = re.compile(r"localhost|127(?:\.[0-9]{1,3}){3}|::1")
_PORTS = {"starttls": 587, "tls": 465, "none": 25}


class Channel(NamedTuple):
    """`rules` say which events it gets (kit/events.py). Its `settings` hold secrets."""

    name: str
    provider: str
    server: str
    rules: tuple[str, ...]
    settings: dict[str, Any]

    def __repr__(self) -> str:
        return f"Channel({self.name!r}, {self.provider!r})"

    @property
    def where(self) -> str:
        """Where it leads, without what is secret: of a URL the host alone."""
        if "url" in self.settings:
            return urlsplit(self.settings["url"]).hostname or ""
        recipients = ", ".join(self.settings["to"])
        host = self.settings.get("host")
        return f"{recipients} by {host}:{self.settings['port']}" if host else recipients


def read(name: str) -> Channel | None:
    """One channel; None when there is no such file. Raises Malformed, with the place but no value."""
    data = store.read_file(f"{layout.NOTIFY}/{name}.json") if _is_name(name) else None
    return None if data is None else parse(data, name)


def everything() -> tuple[list[Channel], dict[str, str]]:
    """All that can be used, by name; and of the others why not. A damaged file must not silence the rest."""
    found, damaged = [], {}
    for name in names():
        try:
            channel = read(name)
        except (strict.Malformed, OSError) as error:
            damaged[name] = str(error) if isinstance(error, strict.Malformed) else error.strerror or "not readable"
        else:
            found += [channel] if channel else []
    return found, damaged


def names() -> list[str]:
    """Of the files that are there. Raises OSError."""
    with contextlib.suppress(FileNotFoundError):
        entries = [entry[: -len(".json")] for entry in os.listdir(layout.NOTIFY) if entry.endswith(".json")]
        return sorted(filter(_is_name, entries))
    return []


def _is_name(text: str) -> bool:
    try:
        return bool(grammar.name(text))
    except ValueError:
        return False


def shown() -> list[dict[str, Any]]:
    """All channels without their secrets."""
    found, damaged = everything()
    told = [
        {"name": one.name, "provider": one.provider, "where": one.where, "rules": list(one.rules), "problem": ""}
        for one in found
    ]
    told += [{"name": n, "provider": "", "where": "", "rules": [], "problem": why} for n, why in damaged.items()]
    return sorted(told, key=lambda one: str(one["name"]))


# --- reading ---------------------------------------------------------------------------------------------------------


def parse(data: bytes, name: str) -> Channel:
    """The channel in a file of this name. Raises Malformed."""
    value = strict.parse_json(data, LIMIT)
    version, named, provider, server, rules, settings = strict.fields(
        value, "v name provider server rules settings", "the channel"
    )
    if version != 1 or named != name:
        raise strict.Malformed("the channel is of another version, or of another name than its file")
    if provider not in _SETTINGS:
        raise strict.Malformed("provider must be slack, webhook, smtp or resend")
    return Channel(
        name,
        provider,
        strict.text(r"[ -~]{0,255}", "printable ASCII")(server, "server"),
        tuple(strict.any_text(rule, "a rule") for rule in strict.items(rules, "rules")),
        _SETTINGS[provider](strict.table(settings, "settings")),
    )


def _slack(value: dict[str, Any]) -> dict[str, Any]:
    (url,) = strict.fields(value, "url", "settings")
    return {"url": _url(url)}


def _webhook(value: dict[str, Any]) -> dict[str, Any]:
    url, secret = strict.fields(value, "url secret", "settings")
    signing_key(_WORD(secret, "secret"))
    return {"url": _url(url), "secret": secret}


def _smtp(value: dict[str, Any]) -> dict[str, Any]:
    known = {"host", "port", "security", "username", "password", "sender", "to"}
    if not {"host", "sender", "to"} <= set(value) <= known:
        raise strict.Malformed("settings must have host, sender and to, and may have port, security and a login")
    security = value.get("security") or "starttls"
    if security not in _PORTS:
        raise strict.Malformed("security must be starttls, tls or none")
    host = _HOST(value["host"], "host")
    if security == "none" and not _LOOPBACK.fullmatch(host):
        raise strict.Malformed("security can be none for this machine's own mail server only")
    return {
        "host": host,
        "port": strict.integer(value.get("port") or _PORTS[security], "port", 1, 65535),
        "security": security,
        "username": _LOGIN(value.get("username") or "", "username"),
        "password": _LOGIN(value.get("password") or "", "password"),
        **_envelope(value["sender"], value["to"]),
    }


def _resend(value: dict[str, Any]) -> dict[str, Any]:
    token, sender, to = strict.fields(value, "token sender to", "settings")
    return {"token": _WORD(token, "token"), **_envelope(sender, to)}


def _envelope(sender: Any, to: Any) -> dict[str, Any]:
    recipients = [MAILBOX(one, "to") for one in strict.items(to, "to")]
    if not 1 <= len(recipients) <= RECIPIENTS:
        raise strict.Malformed(f"to must name 1 to {RECIPIENTS} addresses")
    return {"sender": _SENDER(sender, "sender"), "to": recipients}


def _url(value: Any) -> str:
    """https, and http to this machine itself."""
    url = _URL(value, "url")
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:  # it would show the URL
        raise strict.Malformed("url must be an https URL") from None
    if not host or "@" in parts.netloc or not re.fullmatch(r"[A-Za-z0-9.:_-]+", host):
        raise strict.Malformed("url must name a host, without a login")
    if parts.scheme == "http" and not _LOOPBACK.fullmatch(host):
        raise strict.Malformed("url must be https")
    return url


def signing_key(secret: str) -> bytes:
    """The bytes of `whsec_BASE64` (Standard Webhooks: 24 to 64 of them). Raises Malformed."""
    encoded = secret[len("whsec_") :] if secret.startswith("whsec_") else ""
    try:
        key = base64.b64decode(encoded + "=" * (-len(encoded) % 4), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if not 24 <= len(key) <= 64:
        raise strict.Malformed("secret must be whsec_ and the base64 of 24 to 64 bytes")
    return key


_SETTINGS: Mapping[str, Any] = {"slack": _slack, "webhook": _webhook, "smtp": _smtp, "resend": _resend}
