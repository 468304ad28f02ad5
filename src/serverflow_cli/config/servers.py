"""The servers of a fleet file that was checked before, without building the whole model again.

Checking the file takes longer than asking a server for its uptime. So the hash of a content that was found good is
remembered, and as long as the file has that content its servers are read directly.
"""

from __future__ import annotations

import hashlib
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .. import __version__
from .folder import FleetFolder


@dataclass(frozen=True)
class ServerAddress:
    """What it takes to select a server and to reach it."""

    host: str
    port: int = 22
    jump: str | None = None
    roles: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()


def load_servers(folder: FleetFolder, remembered: Path) -> Mapping[str, ServerAddress]:
    """The servers, in the order of the file. `remembered` holds the hash of the last good content.

    Raises ConfigError as `load` does, when the file is another one than the last time.
    """
    from .load import parse, read_text

    text = read_text(folder.fleet_toml)
    digest = hashlib.sha256(f"{__version__}\0{text}".encode()).hexdigest()
    if _known(remembered) != digest:
        parse(text)
        _remember(remembered, digest)
    return _addresses(tomllib.loads(text.removeprefix("\ufeff")))


def servers_alone(folder: FleetFolder) -> Mapping[str, ServerAddress]:
    """The servers of a file whose other tables may be wrong. Raises ConfigError when theirs are, or it is no TOML."""
    import tomli_w

    from .load import parse, read_text, toml

    document = toml(read_text(folder.fleet_toml), folder.fleet_toml.name)
    servers = {"schema": document.get("schema"), "servers": document.get("servers", {})}
    parse(tomli_w.dumps({key: value for key, value in servers.items() if value is not None}))
    return _addresses(servers)


def _addresses(document: Mapping[str, Any]) -> Mapping[str, ServerAddress]:
    return {
        name: ServerAddress(
            str(stanza["host"]),
            int(stanza.get("port", 22)),
            stanza.get("jump"),
            tuple(stanza.get("roles", ())),
            tuple(stanza.get("tags", ())),
        )
        for name, stanza in document.get("servers", {}).items()
    }


def _known(remembered: Path) -> str:
    try:
        return remembered.read_text()
    except (OSError, ValueError):
        return ""


def _remember(remembered: Path, digest: str) -> None:
    """Only to be quicker the next time: what cannot be written is no reason to fail."""
    try:
        remembered.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        remembered.write_text(digest)
    except OSError:
        return
