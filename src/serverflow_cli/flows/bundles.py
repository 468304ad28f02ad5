"""The fleet's signed bundle: the runner and registry of the installed `sf`, vouched for by a release key."""

from __future__ import annotations

import json
from dataclasses import dataclass

from ..config.atomic import locked, write_atomic
from ..errors import TrustError
from ..model.result import Report
from .workspace import Workspace


@dataclass(frozen=True)
class SignedBundle:
    """Manifest, its armoured signatures, and the files in the manifest's order."""

    version: int
    manifest: bytes
    signature: str
    files: tuple[bytes, ...]


def current(workspace: Workspace) -> SignedBundle:
    """The bundle of the fleet folder, if it is what this `sf` carries. Raises TrustError when it is not, or is not
    signed.
    """
    from ..trust import bundle, sshsig

    manifest, signature = _stored(workspace)
    files = bundle.collect()
    version = _version(manifest)
    if bundle.manifest(version, files) != manifest:
        raise TrustError(
            "this sf carries another runner or registry than the fleet's bundle",
            code="bundle-differs",
            hint="sf server update",
        )
    releases = {key.public_key for key in workspace.trust.release.keys}
    signers = {sshsig.verify(blob, sshsig.BUNDLE, manifest) for blob in sshsig.dearmor(signature)}
    if len(signers & releases) < workspace.trust.release.threshold:
        raise TrustError("bundle.json is not signed by a release key of this fleet", hint="git log bundle.json")
    return SignedBundle(version, manifest, signature, tuple(files[path] for path in sorted(files)))


def ensure(workspace: Workspace, report: Report) -> SignedBundle:
    """The current bundle; a new version is signed when the installed `sf` has changed. Raises TrustError without a
    release key.
    """
    from ..trust import bundle, sshsig

    try:
        return current(workspace)
    except TrustError as error:
        if error.code != "bundle-differs":
            raise
    signer = workspace.release_signer()
    path = workspace.folder.path / "bundle.json"
    with locked(path):
        version = _version(_stored(workspace)[0]) + 1
        manifest = bundle.manifest(version, bundle.collect())
        report({"t": "note", "text": f"signing bundle version {version}"})
        write_atomic(
            path.with_name("bundle.json.sig"), sshsig.armor(sshsig.sign(signer, sshsig.BUNDLE, manifest)).encode()
        )
        write_atomic(path, manifest)
    return current(workspace)


def _stored(workspace: Workspace) -> tuple[bytes, str]:
    path = workspace.folder.path / "bundle.json"
    try:
        return path.read_bytes(), path.with_name("bundle.json.sig").read_text()
    except (OSError, ValueError) as error:
        raise TrustError(f"{path} cannot be read: {error}", hint="git log bundle.json") from error


def _version(manifest: bytes) -> int:
    """Raises TrustError for what is no manifest."""
    try:
        return int(json.loads(manifest)["version"])
    except (ValueError, LookupError, TypeError):
        raise TrustError("bundle.json is damaged", hint="git log bundle.json") from None


def stored(workspace: Workspace) -> SignedBundle:
    """What is signed in the fleet folder; without files, since this `sf` carries others."""
    manifest, signature = _stored(workspace)
    return SignedBundle(_version(manifest), manifest, signature, ())


def preview(workspace: Workspace) -> SignedBundle:
    """What `ensure` would give, without signing: for a plan."""
    try:
        return current(workspace)
    except TrustError as error:
        if error.code != "bundle-differs":
            raise
    manifest, signature = _stored(workspace)
    return SignedBundle(_version(manifest) + 1, manifest, signature, ())
