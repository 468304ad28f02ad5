"""Signatures over pins.toml and bundle.json by keys that the next trust version names, before it counts.

Both files are verified against the newest version. Without this, taking a root or release key out would leave files
behind that nobody can use any more.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ..config.atomic import locked, write_atomic
from .workspace import Workspace

if TYPE_CHECKING:
    from ..trust.trustfile import Role, Trust


def countersign(workspace: Workspace, after: Trust) -> None:
    """Add our signatures beside those that are there. Raises SfError."""
    from ..trust import sshsig
    from . import sealing

    sealing.remember(workspace)  # secrets.toml may have been signed by somebody who leaves
    before = workspace.trust
    folder = workspace.folder
    _countersign(workspace, folder.pins_toml, sshsig.PINS, "root", before.root, after.root)
    bundle = folder.path / "bundle.json"
    _countersign(workspace, bundle, sshsig.BUNDLE, "release", before.release, after.release)


def _countersign(workspace: Workspace, path: Path, namespace: str, name: str, before: Role, after: Role) -> None:
    """Only what is signed well now: a file that someone put there must not get our signature in passing."""
    from ..trust import chain, sshsig

    if not path.exists():
        return
    with locked(path):
        data, signatures = path.read_bytes(), path.with_name(f"{path.name}.sig")
        blobs = {sshsig.signer_of(blob, namespace, data): blob for blob in sshsig.dearmor(signatures.read_text())}
        blobs.pop(b"", None)
        if len(chain.publics(before) & blobs.keys()) < _needed(name, before):
            return
        ours = workspace.keyring.signers(name, chain.publics(before) | chain.publics(after))
        new = {
            signer.public_key: sshsig.sign(signer, namespace, data)
            for signer in ours
            if signer.public_key in chain.publics(after) and signer.public_key not in blobs
        }
        if new:
            text = "".join(map(sshsig.armor, [*new.values(), *blobs.values()]))
            write_atomic(signatures, text.encode())


def _needed(name: str, role: Role) -> int:
    """One root key signs pins; the release threshold signs bundles."""
    return 1 if name == "root" else role.threshold
