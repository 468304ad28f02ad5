"""The form of DMARC policies (RFC 7489 section 6.3) and DKIM keys (RFC 6376 section 3.6.1)."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator

_POLICIES = ("none", "quarantine", "reject")
#: Octets of an Ed25519 key (RFC 8463 section 4.2).
_ED25519 = 32


def is_dmarc(text: str) -> bool:
    """Whether receivers take a TXT at `_dmarc` for a policy at all."""
    return text.partition(";")[0].replace(" ", "") == "v=DMARC1"


def dmarc_faults(text: str) -> Iterator[str]:
    """What receivers would stumble over in a DMARC policy."""
    yield from _pasted(text)
    tags = dict(_tags(text))
    for tag in "p", "sp":
        if (tag in tags or tag == "p") and tags.get(tag, "").lower() not in _POLICIES:
            yield f"{tag}={tags.get(tag, '')} is not one of {', '.join(_POLICIES)}"
    for tag in "rua", "ruf":
        strange = [uri for uri in tags.get(tag, "mailto:").split(",") if not uri.strip().lower().startswith("mailto:")]
        if strange:
            yield f"{tag} is not a list of mailto: addresses: {', '.join(strange)}"


def dkim_faults(text: str) -> Iterator[str]:
    """What verifiers would stumble over in a DKIM key. A key without data is a revoked one, and no fault."""
    yield from _pasted(text)
    pairs = list(_tags(text))
    tags = dict(pairs)
    if "v" in tags and (pairs[0] != ("v", "DKIM1")):
        yield "v=DKIM1 comes first, or not at all"
    kind = tags.get("k", "rsa")
    if kind not in ("rsa", "ed25519"):
        yield f"k={kind} is neither rsa nor ed25519"
    if "p" not in tags:
        yield "there is no key (p=)"
        return
    try:
        key = base64.b64decode("".join(tags["p"].split()), validate=True)
    except (binascii.Error, ValueError):
        yield "the key (p=) is not base64"
        return
    if key and kind == "ed25519" and len(key) != _ED25519:
        yield f"an Ed25519 key has {_ED25519} octets, and this one {len(key)}"


def _pasted(text: str) -> Iterator[str]:
    if "\\;" in text:
        yield "it has \\; where ; is meant: the backslash belongs to zone files"


def _tags(text: str) -> Iterator[tuple[str, str]]:
    for part in text.split(";"):
        if part.strip():
            tag, _, value = part.partition("=")
            yield tag.strip(), value.strip()
