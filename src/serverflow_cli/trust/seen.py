"""What this machine remembers of a signed file in the fleet folder: the newest version that was verified here.

Whoever may merge into the folder can bring an older one back, with its true signature; its number tells.
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
class Seen:
    """Version and SHA-256 of the file's bytes; 0 and "" before the first."""

    version: int = 0
    sha256: str = ""


def load(path: Path) -> Seen:
    """The record. Raises TrustError when it is damaged: it is never guessed anew."""
    try:
        record = json.loads(path.read_bytes())
        seen = Seen(record["version"], record["sha256"])
        if type(seen.version) is not int or seen.version < 1 or not _SHA256.fullmatch(seen.sha256):
            raise ValueError("not a version and a hash")
    except FileNotFoundError:
        return Seen()
    except (OSError, ValueError, LookupError, TypeError, RecursionError) as error:
        raise TrustError(
            f"{path} is damaged: {error}", hint="compare the file with a colleague, then remove it"
        ) from None
    return seen


def save(path: Path, seen: Seen) -> None:
    """Write the record. Raises ConfigError."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    write_atomic(path, (json.dumps(asdict(seen), indent=1) + "\n").encode(), 0o600)


def advance(path: Path, seen: Seen, name: str, version: int, data: bytes) -> None:
    """Go on from what was `seen` to this content of the file `name`, whose signature the caller has verified; version 0
    means that there is no file.

    Raises TrustError(older-version) for one that is older, or another one of the same version.
    """
    if version < seen.version:
        raise TrustError(
            f"the fleet folder went back to version {version} of {name}; version {seen.version} was seen here",
            code="older-version",
            hint="pull the fleet folder",
        )
    found = Seen(version, hashlib.sha256(data).hexdigest())
    if version and version == seen.version and found != seen:
        raise TrustError(
            f"version {version} of {name} is not the one that was seen here",
            code="older-version",
            hint=f"ask who changed the fleet folder; if two wrote it at once and this one is to stay: rm {path}",
        )
    if version > load(path).version:  # another process may have seen a newer one meanwhile
        save(path, found)
