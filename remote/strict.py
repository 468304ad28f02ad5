"""Strict reading: JSON that has one meaning whoever reads it, and checks that convert nothing.

Every check takes a value and the words for its place, and returns the value or raises Malformed.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from typing import Any, Callable

DEPTH_LIMIT = 8
INTEGER_LIMIT = 2**53  # from there on, JSON readers disagree about which number was meant (RFC 8259, 6)

Check = Callable[[Any, str], str]


class Malformed(ValueError):
    """The bytes are not what the schema says. The message names the place."""


def parse_json(body: bytes, limit: int) -> dict[str, Any]:
    """One JSON object, at most `limit` bytes long. Raises Malformed.

    UTF-8 without a byte order mark; no duplicate key, float, NaN or Infinity, no integer beyond ±(2^53 - 1), no lone
    surrogate; objects and lists at most 8 levels deep.
    """
    if len(body) > limit:
        raise Malformed(f"more than {limit} bytes")
    try:
        value = json.loads(
            body.decode("utf-8"),
            object_pairs_hook=_unique,
            parse_int=_bounded,
            parse_float=_no_integer,
            parse_constant=_no_integer,
        )
    except Malformed:
        raise
    except RecursionError:
        raise Malformed("nested too deeply") from None
    except ValueError:
        raise Malformed("not JSON in UTF-8") from None
    _check_depth_and_text(table(value, "the whole"))
    return dict(value)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        raise Malformed("a key appears twice")
    return value


def _bounded(digits: str) -> int:
    # Length first: int() takes quadratic time for long texts.
    if len(digits) > 17 or abs(int(digits)) >= INTEGER_LIMIT:
        raise Malformed("a number beyond 53 bits")
    return int(digits)


def _no_integer(written: str) -> Any:
    raise Malformed(f"{written[:20]} is not a whole number")


def _check_depth_and_text(value: dict[str, Any]) -> None:
    """Level by level, not by recursion: the depth is the sender's choice."""
    level: list[Any] = [value]
    depth = 0
    while level:
        inner: list[Any] = []
        containers = [item for item in level if isinstance(item, (dict, list))]
        depth += bool(containers)
        if depth > DEPTH_LIMIT:
            raise Malformed(f"more than {DEPTH_LIMIT} levels deep")
        for item in containers:
            inner += [*item, *item.values()] if isinstance(item, dict) else item
        if not all(_encodable(item) for item in inner if isinstance(item, str)):
            raise Malformed("half of a surrogate pair")
        level = inner


def _encodable(string: str) -> bool:
    try:
        string.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def fields(value: Any, names: str, where: str) -> list[Any]:
    """The values of an object that has exactly these keys, in the order of `names` (separated by spaces)."""
    wanted = names.split()
    if set(table(value, where)) != set(wanted):
        raise Malformed(f"{where} must have exactly: {names}")
    return [value[name] for name in wanted]


def table(value: Any, where: str) -> dict[str, Any]:
    """An object with any keys."""
    if type(value) is not dict:
        raise Malformed(f"{where} must be an object")
    return value


def items(value: Any, where: str) -> list[Any]:
    """A list."""
    if type(value) is not list:
        raise Malformed(f"{where} must be a list")
    return value


def integer(value: Any, where: str, least: int = 0, most: int = INTEGER_LIMIT - 1) -> int:
    """A whole number within bounds; true and false are none."""
    if type(value) is not int or not least <= value <= most:
        raise Malformed(f"{where} must be a whole number from {least} to {most}")
    return value


def text(pattern: str, what: str) -> Check:
    """The check for texts that match `pattern` from end to end. Compiled at its first use: most never have one."""
    whole = rf"(?:{pattern})\Z"

    def check(value: Any, where: str) -> str:
        if type(value) is not str or not re.match(whole, value, re.ASCII | re.DOTALL):
            raise Malformed(f"{where} must be {what}")
        return value

    return check


any_text = text(r".*", "text")
hex32 = text(r"[0-9a-f]{32}", "32 hex digits")
hex64 = text(r"[0-9a-f]{64}", "64 hex digits")
hex64_or_empty = text(r"(?:[0-9a-f]{64})?", "64 hex digits or empty")
ulid = text(r"[0-7][0-9A-HJKMNP-TV-Z]{25}", "a ULID")
_line = text(
    r"(?:ssh-ed25519|sk-ssh-ed25519@openssh\.com) [A-Za-z0-9+/]{68,400}={0,2}", "an Ed25519 key without a comment"
)
_network = text(r"[0-9a-fA-F:.]{2,45}(?:/[0-9]{1,3})?", "an address or network")


def nullable(check: Check, value: Any, where: str) -> str | None:
    """null, or what `check` accepts."""
    return None if value is None else check(value, where)


def distinct(values: list[Any], where: str) -> list[Any]:
    """Checked values of which none is there twice."""
    if len(set(values)) != len(values):
        raise Malformed(f"{where} names something twice")
    return values


def public_key(value: Any, where: str) -> bytes:
    """The raw 32 bytes of `ssh-ed25519 AAAA…`. Its blob of 51 bytes takes no padding: there is one way to write it."""
    blob = _blob(value, where)
    if len(blob) != 51 or blob[:19] != b"\0\0\0\x0bssh-ed25519\0\0\0\x20":
        raise Malformed(f"{where} must be an Ed25519 key")
    return blob[19:]


def login_key(value: Any, where: str) -> str:
    """A login key as in authorized_keys(5): type and base64 only, so that nothing else can get into that file."""
    _blob(value, where)
    return str(value)


def _blob(value: Any, where: str) -> bytes:
    kind, encoded = _line(value, where).split(" ")
    try:
        blob = base64.b64decode(encoded, validate=True)
    except binascii.Error:
        raise Malformed(f"{where} has damaged base64") from None
    if not blob.startswith(len(kind).to_bytes(4, "big") + kind.encode()):
        raise Malformed(f"{where} has another type than it says")
    return blob


def address(value: Any, where: str) -> str:
    """For from="…" of authorized_keys. A network with host bits set is refused here: sshd(8) would ignore its key."""
    import ipaddress

    network = _network(value, where)
    try:
        ipaddress.ip_network(network)
    except ValueError:
        raise Malformed(f"{where} must be an address or network") from None
    return network
