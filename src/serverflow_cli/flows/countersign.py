"""Signatures over pins.toml and bundle.json when their signers leave, so that nobody is left with files that count no
more.

A key may leave because it was stolen, and then what it signed last may be a thief's. So ours goes in its place only
where our own key had signed the same bytes, where they are what this `sf` carries, or where a person was shown what the
pins say.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from serverflow_actions.kit.change import Change

from ..config.atomic import locked, write_atomic
from .workspace import Workspace

if TYPE_CHECKING:
    from ..trust.sshsig import Signer
    from ..trust.trustfile import Trust


def pins_to_vouch_for(workspace: Workspace, after: Trust) -> list[Change]:
    """What a signature of ours would say of the servers, for whoever approves it; nothing where none is needed, or
    where it would only renew our own.
    """
    from ..trust import chain
    from ..trust.keys import ssh_fingerprint

    signed = _signed(workspace, workspace.folder.pins_toml, "pins")
    if not signed or signed.keys() & chain.publics(after.root) or signed.keys() & _ours(workspace, "root", after):
        return []
    names = [key.name for key in workspace.trust.root.keys if key.public_key in signed]
    fields = {
        name: (None, f"identity {ssh_fingerprint(pin.identity)}, host key {ssh_fingerprint(pin.host_keys[0])}")
        for name, pin in workspace.pins.items()
        if pin.identity
    }
    note = f"only {', '.join(names)} signed it: compare it with what you know, or with git log"
    return [Change("update", "pins.toml", "signature", fields, note=note)]


def countersign(workspace: Workspace, after: Trust) -> list[str]:
    """Sign what has to be, before `after` counts; the pins were shown. Returns notes. Raises SfError."""
    from ..trust import chain
    from . import sealing

    sealing.remember(workspace)  # secrets.toml may have been signed by somebody who leaves
    pins, bundle = workspace.folder.pins_toml, workspace.folder.path / "bundle.json"
    signed = _signed(workspace, pins, "pins")
    if signed and not signed.keys() & chain.publics(after.root):
        _add(workspace, pins, "pins", _signers(workspace, "root", after)[:1])
    signed = _signed(workspace, bundle, "bundle")
    if not signed or len(signed.keys() & chain.publics(after.release)) >= after.release.threshold:
        return []
    if signed.keys() & _ours(workspace, "release", after) or _is_carried(bundle):
        signed = _add(workspace, bundle, "bundle", _signers(workspace, "release", after))
    if len(signed.keys() & chain.publics(after.release)) < after.release.threshold:
        return ["bundle.json was signed by a key that leaves: a release key's holder runs sf registry sign"]
    return []


def _add(workspace: Workspace, path: Path, kind: str, signers: list[Signer]) -> dict[bytes, bytes]:
    """Add signatures to those that are there; all of them."""
    from ..trust import sshsig

    with locked(path):
        data, signed = path.read_bytes(), _signed(workspace, path, kind)
        for signer in signers:
            signed.setdefault(signer.public_key, sshsig.sign(signer, _namespace(kind), data))
        text = "".join(sshsig.armor(blob) for blob in signed.values())
        write_atomic(path.with_name(f"{path.name}.sig"), text.encode())
        return signed


def _signed(workspace: Workspace, path: Path, kind: str) -> dict[bytes, bytes]:
    """Who of the newest version signed the file well enough for it to count now, with the signatures; else nobody."""
    from ..trust import chain, sshsig

    role = workspace.trust.root if kind == "pins" else workspace.trust.release
    try:
        data, text = path.read_bytes(), path.with_name(f"{path.name}.sig").read_text()
    except OSError:
        return {}
    blobs = {sshsig.signer_of(blob, _namespace(kind), data): blob for blob in sshsig.dearmor(text)}
    signed = {key: blob for key, blob in blobs.items() if key in chain.publics(role)}
    return signed if len(signed) >= (1 if kind == "pins" else role.threshold) else {}


def _signers(workspace: Workspace, role: str, after: Trust) -> list[Signer]:
    """Our keys that have the role in the next version."""
    from ..trust import chain

    then = chain.publics(after.root if role == "root" else after.release)
    return [signer for signer in _held(workspace, role, after) if signer.public_key in then]


def _ours(workspace: Workspace, role: str, after: Trust) -> set[bytes]:
    return {signer.public_key for signer in _held(workspace, role, after)}


def _held(workspace: Workspace, role: str, after: Trust) -> list[Signer]:
    """Our keys that have the role now or then: while one is replaced, both."""
    from ..trust import chain

    trust = workspace.trust
    now, then = (trust.root, after.root) if role == "root" else (trust.release, after.release)
    return workspace.keyring.signers(role, chain.publics(now) | chain.publics(then))


def _is_carried(path: Path) -> bool:
    """Whether the bundle is byte for byte what this sf would send."""
    from ..trust import bundle

    data = path.read_bytes()
    return bundle.manifest(bundle.parse(data).version, bundle.collect()) == data


def _namespace(kind: str) -> str:
    from ..trust import sshsig

    return sshsig.PINS if kind == "pins" else sshsig.BUNDLE
