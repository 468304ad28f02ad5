"""What this machine remembers of a fleet's trust: git hands over the trust folder, so git cannot vouch for it."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass
from pathlib import Path

from ..config.atomic import write_atomic
from ..errors import TrustError
from .keys import fingerprint
from .trustfile import Role

_FINGERPRINT = re.compile(r"SHA256:[A-Za-z0-9+/]{43}")


@dataclass(frozen=True)
class Anchor:
    """The highest version that was seen, by its number and the SHA-256 of its bytes, and its root keys' fingerprints.

    On first contact only fingerprints are known: `version` is 0 then, `fleet` and `sha256` are empty, and `needed` says
    how many of them must have signed the newest version; with 0 each must have signed one.
    """

    roots: tuple[str, ...]
    version: int = 0
    sha256: str = ""
    fleet: str = ""
    needed: int = 0


def from_fingerprints(text: str) -> Anchor:
    """A first contact's anchor: what a colleague read out, or SF_ROOT, as `read_out` writes it. Raises TrustError."""
    match = re.fullmatch(r"(?:([1-9][0-9]?):)?(SHA256:.+)", text.strip())
    count, listed = match.groups() if match else (None, "")
    roots = tuple(sorted({part.strip() for part in listed.split(",")}))
    if not all(_FINGERPRINT.fullmatch(root) for root in roots) or int(count or 1) > len(roots):
        raise TrustError("not a root key's fingerprint (SHA256:…)", hint="a colleague reads it out from: sf trust show")
    return Anchor(roots, needed=int(count or 0))


def read_out(root: Role) -> str:
    """The fingerprint of the only root key; of several `2:SHA256:…,SHA256:…`, with how many must sign before it."""
    prints = sorted(fingerprint(key.public_key) for key in root.keys)
    return prints[0] if len(prints) == 1 else f"{root.threshold}:{','.join(prints)}"


def load(path: Path) -> Anchor | None:
    """The record, or None before first contact. Raises TrustError when it is damaged: it is never guessed anew."""
    try:
        record = json.loads(path.read_bytes())
        return Anchor(
            tuple(map(str, record["roots"])), int(record["version"]), str(record["sha256"]), str(record["fleet"])
        )
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise TrustError(
            f"{path} is damaged: {error}", hint="check the root fingerprint with a colleague, then remove it"
        ) from None


def save(path: Path, anchor: Anchor) -> None:
    """Write the record. A fleet stays itself, and its version only goes up. Raises TrustError, ConfigError."""
    known = load(path)
    if known and known.fleet != anchor.fleet:
        raise TrustError(f"{path} belongs to another fleet")
    if known and known.version > anchor.version:
        return  # another process has seen a newer one meanwhile; whoever read this one compared it with the record
    if known and known != anchor and known.version == anchor.version:
        raise TrustError(f"trust version {known.version} was seen here, and this is another")
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    write_atomic(path, (json.dumps(asdict(anchor), indent=1) + "\n").encode(), 0o600)
