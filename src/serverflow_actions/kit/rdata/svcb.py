"""SVCB and HTTPS (RFC 9460): where a service is, and how to speak to it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping

from .addresses import a, hint
from .names import target
from .numbers import fields, number
from .strings import quote, unescaped

#: Keys by their names (RFC 9460 section 14.3.2). Only these have names at PowerDNS 4.7.
_KEYS = ("mandatory", "alpn", "no-default-alpn", "port", "ipv4hint", "ech", "ipv6hint")
#: Younger names, of which PowerDNS takes the number alone: RFC 9461, RFC 9540.
_NUMBERED = {"dohpath": 7, "ohttp": 8}


def svcb(raw: str, zone: str) -> str:
    """`PRIORITY TARGET [KEY=VALUE…]` in the order of the keys' numbers. Priority 0 is an alias, without any."""
    words = fields(raw, 2, "PRIORITY TARGET [KEY=VALUE…], such as 1 . alpn=h2,h3")
    host, _, rest = words[1].partition(" ")
    priority = number(words[0], 16, "a priority")
    params: dict[int, str] = {}
    for name, value in _split(rest.strip(" ")):
        key = _key(name)
        if key in params:
            raise ValueError(f"{name} is there twice")
        params[key] = _value(key, name, value)
    if params and not priority:
        raise ValueError("priority 0 is an alias, which has no keys (RFC 9460 section 2.4.2)")
    _check_mandatory(params)
    written = [_name(key) + (f"={params[key]}" if key != 2 else "") for key in sorted(params)]
    return " ".join([str(priority), target(host, zone, root=True), *written])


def _split(text: str) -> Iterator[tuple[str, bytes | None]]:
    at = 0
    param = re.compile(r'([a-z0-9-]+)(?:=(?:"((?:[^"\\]|\\[0-9]{3}|\\[^0-9])*)"|([^ "\\]+)))?(?: +|\Z)')
    while at < len(text):
        match = param.match(text, at)
        if not match:
            raise ValueError(f"{text[at : at + 60]!a} is not KEY=VALUE")
        inside, bare = match.group(2), match.group(3)
        yield match.group(1), bare.encode() if bare else None if inside is None else unescaped(inside)
        at = match.end()


def _key(name: str) -> int:
    if name in _KEYS:
        return _KEYS.index(name)
    found = _NUMBERED.get(name, -1)
    match = re.match(r"key(0|[1-9][0-9]{0,4})\Z", name)
    if match:
        found = int(match.group(1))
    # 65535 is reserved; the first seven are known by their names, and checked.
    if not len(_KEYS) <= found < 65535:
        raise ValueError(f"{name[:60]!a} is not a key: {', '.join((*_KEYS, *_NUMBERED))}, or key7 to key65534")
    return found


def _name(key: int) -> str:
    return _KEYS[key] if key < len(_KEYS) else f"key{key}"


def _value(key: int, name: str, value: bytes | None) -> str:
    if key == 2:
        if value is not None:
            raise ValueError(f"{name} has no value")
        return ""
    if key >= len(_KEYS):
        return quote(value or b"")
    if not value:
        raise ValueError(f"{name} needs a value")
    return _READERS[_KEYS[key]](value.decode("utf-8", "replace"))


def _mandatory(text: str) -> str:
    keys = [_key(name) for name in text.split(",")]
    if len(set(keys)) < len(keys) or 0 in keys:
        raise ValueError(f"{text[:60]!a}: mandatory names each key once, and not itself (RFC 9460 section 8)")
    return ",".join(map(_name, sorted(keys)))


def _alpn(text: str) -> str:
    # RFC 9460 allows any octets here, escaped twice. No protocol has such a name.
    if not re.match(r"[A-Za-z0-9._/+-]{1,255}(?:,[A-Za-z0-9._/+-]{1,255})*\Z", text):
        raise ValueError(f"{text[:60]!a} is not a list of protocols such as h2,h3")
    return text


def _port(text: str) -> str:
    return str(number(text, 16, "a port"))


def _ipv4hint(text: str) -> str:
    return ",".join(map(a, text.split(",")))


def _ipv6hint(text: str) -> str:
    return ",".join(map(hint, text.split(",")))


def _ech(text: str) -> str:
    import base64
    import binascii

    try:
        configs = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise ValueError(f"{text[:60]!a} is not base64") from None
    if len(configs) < 6 or int.from_bytes(configs[:2], "big") != len(configs) - 2:
        raise ValueError(f"{text[:60]!a} is not an ECHConfigList: its length is not what it says (RFC 9849 section 4)")
    return f'"{base64.b64encode(configs).decode()}"'


_READERS: Mapping[str, Callable[[str], str]] = {
    "mandatory": _mandatory,
    "alpn": _alpn,
    "port": _port,
    "ipv4hint": _ipv4hint,
    "ech": _ech,
    "ipv6hint": _ipv6hint,
}


def _check_mandatory(params: Mapping[int, str]) -> None:
    missing = [name for name in params.get(0, "").split(",") if name and _key(name) not in params]
    if missing:
        raise ValueError(f"mandatory names {', '.join(missing)}, which is not there")
    if 2 in params and 1 not in params:
        raise ValueError("no-default-alpn is nothing without alpn (RFC 9460 section 7.1.1)")
