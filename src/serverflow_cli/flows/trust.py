"""The trust file for people: who is root, who may do what, until when."""

from __future__ import annotations

from ..model.result import CommandResult
from .times import rfc3339
from .workspace import Workspace


async def show(workspace: Workspace) -> CommandResult:
    """The verified newest version. A colleague with a new clone compares the root fingerprints."""
    from ..trust.keys import fingerprint

    trust = workspace.trust
    names = {pin.server_id: name for name, pin in workspace.pins.items()}
    keys = [
        {
            "key": key.name,
            "fingerprint": fingerprint(key.public_key),
            "expires_at": rfc3339(key.expires),
            "actions": sum(len(grant.actions) for grant in key.grants),
            "servers": sorted({names.get(server, server[:12]) for grant in key.grants for server in grant.servers}),
        }
        for key in trust.command
    ]
    roots = ", ".join(fingerprint(key.public_key) for key in trust.root.keys)
    return CommandResult(
        workspace.label,
        data={"keys": keys},
        notes=(
            f"trust version {trust.version}, valid until {rfc3339(trust.expires)}",
            f"root, {trust.root.threshold} of {len(trust.root.keys)}: {roots}",
        ),
    )
