"""Which CAs may issue certificates for a name, by its CAA records (RFC 8659, RFC 8657)."""

from __future__ import annotations

from collections.abc import Iterable

from serverflow_actions.kit.rdata.text import property_of
from serverflow_actions.kit.rrset import RRset

from .zone_view import ZoneView, ancestors

#: Properties that CAs know; one that a CA does not know and that is marked critical forbids everything.
_KNOWN = frozenset({"issue", "issuewild", "iodef", "issuemail", "contactemail", "contactphone"})
_CRITICAL = 0x80
#: How we prove that a name is ours (RFC 8555 section 8.4).
_METHOD = "dns-01"


def relevant(view: ZoneView, name: str) -> RRset | None:
    """The CAA rrset that counts for a name or wildcard: its own or its closest ancestor's (RFC 8659 section 3). None
    where the zone has none; above the zone nobody has looked.
    """
    for each in ancestors(name.removeprefix("*."), view.zone):
        found = view.at(view.chain(each)[-1]).get("CAA") if view.knows(view.chain(each)[-1]) else None
        if found:
            return found
    return None


def forbidden(values: Iterable[str], issuer: str, wildcard: bool) -> str:
    """Why a CA with this issuer domain name may not issue, by the values of a CAA rrset; "" when it may."""
    properties = [property_of(value) for value in values]
    for flags, tag, _ in properties:
        if flags & _CRITICAL and tag not in _KNOWN:
            return f"the property {tag} is critical, and no CA knows it"
    counting = "issuewild" if wildcard and any(tag == "issuewild" for _, tag, _ in properties) else "issue"
    allowed = [text for _, tag, text in properties if tag == counting]
    if not allowed:
        return ""
    named = [_parsed(text) for text in allowed]
    ours = [params for domain, params in named if domain == issuer.lower().rstrip(".")]
    if not ours:
        others = ", ".join(sorted(domain for domain, _ in named if domain)) or "no CA at all"
        return f"{counting} allows {others}, not {issuer}"
    methods = [params.get("validationmethods") for params in ours]
    if all(each is not None and _METHOD not in each.split(",") for each in methods):
        return f"{counting} allows {issuer} only by {methods[0]}, not by {_METHOD} (RFC 8657)"
    return ""


def _parsed(text: str) -> tuple[str, dict[str, str]]:
    domain, *params = (part.strip(" \t") for part in text.split(";"))
    pairs = (param.partition("=") for param in params if param)
    return domain.lower().rstrip("."), {tag.strip().lower(): value.strip() for tag, _, value in pairs}
