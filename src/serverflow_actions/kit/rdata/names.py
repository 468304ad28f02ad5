"""Domain names: absolute, in lower case, with the final dot. RFC 1035 section 5.1, RFC 4592 for wildcards.

Labels are of letters, digits, `-` and `_`. Others exist in DNS, and need escapes (`\\.`) that few tools get right.
"""

from __future__ import annotations

import re
from typing import Any

#: RFC 1035 section 2.3.4: 255 octets with the length of each label and of the root, so 254 characters with all dots.
_LONGEST = 254
_LABEL = r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"


def fqdn(raw: Any) -> str:
    """An absolute name; its final dot may be left out. It may begin with a wildcard label, and is not the root."""
    return _absolute(raw, raw[:-1] if isinstance(raw, str) and raw.endswith(".") else raw, r"(?:\*\.)?")


def owner(raw: Any, zone: str) -> str:
    """The absolute name of an rrset in a zone: `@`, a relative name such as `www` or `*.web1`, or an absolute one.

    `www.acme.app` without a final dot in the zone acme.app. is refused: it means www.acme.app.acme.app.
    """
    zone = fqdn(zone)
    if raw == "@":
        return zone
    if isinstance(raw, str) and raw.endswith("."):
        name = fqdn(raw)
        if not inside(name, zone):
            raise ValueError(f"{name} is not in the zone {zone}")
        return name
    if raw == "*":
        return _absolute(raw, f"*.{zone[:-1]}", r"\*\.")
    name = fqdn(raw)
    if inside(name, zone):
        short = name[: -len(zone)].rstrip(".") or "@"
        raise ValueError(f"{raw!a} in the zone {zone} would be {name}{zone}: write {short}, or {name} with a final dot")
    return fqdn(name + zone)


def target(raw: Any, zone: str, root: bool = False) -> str:
    """The absolute name that a value leads to: `mail.acme.org.`, one label of the zone, or `@` for the zone itself.

    Several labels without a final dot are refused: everybody means another name than a zone file would. `root` allows
    `.`, by which some types say that there is nothing.
    """
    if raw == "@":
        return fqdn(zone)
    if raw == "." and root:
        return "."
    text = raw if isinstance(raw, str) else ""
    if text.endswith("."):
        return _absolute(raw, text[:-1])
    name = _absolute(raw, raw)
    if "." in name[:-1]:
        raise ValueError(f"{raw!a} may be meant either way: write {name} with a final dot, or {name}{fqdn(zone)}")
    return _absolute(raw, name + fqdn(zone)[:-1])


def host(raw: Any, zone: str, root: bool = False) -> str:
    """A target that must be the name of a host: no label has `_` (RFC 1123 section 2.1). PowerDNS refuses others."""
    name = target(raw, zone, root)
    if "_" in name:
        raise ValueError(f"{name} is not the name of a host: those have no _ (RFC 1123)")
    return name


def inside(name: str, zone: str) -> bool:
    """Whether an absolute name is the zone's own or below it."""
    return name == zone or name.endswith("." + zone)


def _absolute(shown: Any, text: Any, before: str = "") -> str:
    if isinstance(text, str) and text.isascii() and len(text) < _LONGEST:
        name = text.lower()
        if re.match(rf"{before}{_LABEL}(?:\.{_LABEL})*\Z", name):
            return name + "."
    hint = "" if not isinstance(shown, str) or shown.isascii() else ": write it in ASCII (xn--…)"
    raise ValueError(
        f"{str(shown)[:60]!a} is not a domain name (a-z, 0-9, - and _; 63 characters between dots, 253 in all){hint}"
    )
