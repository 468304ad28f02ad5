"""The newest pins.toml of a fleet that this machine has seen. A root key's signature says nothing about time: whoever
may merge into the fleet folder can bring an older file back, and with it a key that was rotated away.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import asdict, dataclass
from pathlib import Path

from ..config.atomic import write_atomic
from ..errors import TrustError

_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class SeenPins:
    """Version and SHA-256 of the bytes of the newest pins.toml that was verified here; 0 and "" before the first."""

    version: int = 0
    sha256: str = ""


def load(path: Path) -> SeenPins:
    """The record, to be read before pins.toml is. Raises TrustError when it is damaged: it is never guessed anew."""
    try:
        record = json.loads(path.read_bytes())
        seen = SeenPins(record["version"], record["sha256"])
        if type(seen.version) is int and seen.version > 0 and _SHA256.fullmatch(seen.sha256):
            return seen
        raise ValueError("not a version and a hash")
    except FileNotFoundError:
        return SeenPins()
    except (OSError, ValueError, LookupError, TypeError, RecursionError) as error:
        raise TrustError(f"{path} is damaged: {error}", hint="see that pins.toml is right, then remove it") from None


def advance(path: Path, seen: SeenPins, version: int, data: bytes) -> None:
    """Go on from what was `seen` to this file, whose signature the caller has verified; version 0: there is no file.

    Raises TrustError for one that is older, or another one of the same version.
    """
    if version < seen.version:
        raise TrustError(
            f"the fleet folder went back to version {version} of pins.toml; version {seen.version} was seen here",
            code="pins-older",
            hint="pull the fleet folder",
        )
    found = SeenPins(version, hashlib.sha256(data).hexdigest())
    if version and version == seen.version and found != seen:
        raise TrustError(
            f"version {version} of pins.toml is not the one that was seen here",
            code="pins-older",
            hint=f"ask who changed the fleet folder; if two wrote it at once and this one is to stay: rm {path}",
        )
    if version > load(path).version:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_atomic(path, (json.dumps(asdict(found), indent=1) + "\n").encode(), 0o600)
