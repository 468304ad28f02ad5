"""Secrets of the fleet, sealed to the operators: put away instead of shown, listed, opened."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from ..config import secrets
from ..errors import SfError
from ..model.result import CommandResult, ServerResult
from .workspace import Workspace

if TYPE_CHECKING:
    from ..config.secrets import Seal
    from ..trust.seal import SealKey


def seals(workspace: Workspace) -> dict[str, Seal]:
    """How to seal, by operator. Only for ourselves, with the key on this machine: what fleet.toml says of others' keys
    is not signed, and whoever may merge there could read along.
    """
    from ..trust.seal import seal

    return {workspace.key_name or "operator": partial(seal, _own_key(workspace).public)}


def put_away(workspace: Workspace, result: CommandResult) -> CommandResult:
    """Seal what would be shown once into secrets.toml. What cannot be sealed is shown: it is kept nowhere else."""
    servers, notes = [], list(result.notes)
    for server in result.servers:
        if server.reply and server.reply.secrets:
            names, kept = _seal_all(workspace, server.reply.secrets, server.name)
            notes += [f"sealed into secrets.toml: sf secret show {name}" for name in names]
            server = ServerResult(server.name, replace(server.reply, secrets=kept), server.error)
        servers.append(server)
    return replace(result, servers=tuple(servers), notes=tuple(notes))


def _seal_all(workspace: Workspace, shown: Mapping[str, str], server: str) -> tuple[list[str], dict[str, str]]:
    """The names under which values were sealed, and the values that could not be."""
    names, kept = [], {}
    for label, value in shown.items():
        name = re.sub(r"[^a-z0-9]+", "_", f"{server} {label}".lower()).strip("_")
        try:
            secrets.put(workspace.folder, name, value, seals(workspace))
            names.append(name)
        except SfError:
            kept[label] = value
    return names, kept


async def list_secrets(workspace: Workspace) -> CommandResult:
    """Names, and which operators can open each."""
    rows = [{"name": name, "operators": list(who)} for name, who in secrets.recipients(workspace.folder).items()]
    return CommandResult(workspace.label, data={"secrets": rows})


async def show_secret(workspace: Workspace, name: str) -> CommandResult:
    """Open one with our own seal key. Raises ConfigError."""
    from ..trust.seal import unseal

    value = secrets.read(workspace.folder, name, partial(unseal, _own_key(workspace)))
    return CommandResult(workspace.label, data={"name": name, "value": value})


def _own_key(workspace: Workspace) -> SealKey:
    from ..trust.seal import load_seal_key, seal_key_from_text

    if workspace.settings.seal_key:
        return seal_key_from_text(workspace.settings.seal_key)
    return load_seal_key(Path(workspace.private / "seal"))
