"""secrets.toml as a whole: read once its signature and version are good, written under a lock and signed.

A sealed box does not say who made it: anyone can seal another value to the public keys. So the file counts only with
the signature of a command key that trust lets open every secret, and never in an older version than was seen here.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ..config import secrets
from ..config.secrets import Boxes, Content
from ..errors import TrustError
from .workspace import Workspace

if TYPE_CHECKING:
    from ..trust.trustfile import CommandKey, Trust

_HINT = "git log secrets.toml secrets.toml.sig"


@dataclass(frozen=True)
class Vault:
    """The file as it was read. `signed` says that a key which may sign now has signed it; otherwise it is one that was
    verified on this machine before its signer left or expired.
    """

    content: Content
    signed: bool
    signatures: tuple[bytes, ...] = ()

    @property
    def boxes(self) -> Boxes:
        return self.content.boxes


def read(workspace: Workspace) -> Vault:
    """Verify it and remember that. Raises TrustError, ConfigError."""
    from ..trust import seen as records

    data, blobs = _read(workspace)
    record = _record(workspace)
    seen = records.load(record)
    if not data:
        if seen.version:
            raise TrustError(
                f"secrets.toml is gone; version {seen.version} was seen here",
                hint=f"{_HINT}; to begin without secrets, remove {record}",
            )
        return Vault(Content(), signed=True)
    digest = hashlib.sha256(data).hexdigest()
    signed = not blobs.keys().isdisjoint(may_sign(workspace.trust))
    if not signed and digest != seen.sha256:
        raise TrustError("secrets.toml is not signed by a key that may do so", hint=_HINT)
    content = secrets.parse(data)
    if content.fleet != workspace.trust.fleet:
        raise TrustError("secrets.toml is another fleet's", hint=_HINT)
    if content.version < seen.version:
        raise TrustError(
            f"secrets.toml went back to version {content.version}; version {seen.version} was seen here",
            hint="pull the fleet folder",
        )
    if digest != seen.sha256:
        records.save(record, records.Seen(content.version, digest))
    return Vault(content, signed, tuple(blobs.values()))


def change(workspace: Workspace, edit: Callable[[Boxes], Boxes]) -> None:
    """Read it again under the lock, edit, sign and write it; whoever stops it, the old file stands or the new one.

    The new signature goes first, beside those of the old file. Raises what `edit` raises, Locked, TrustError,
    ConfigError.
    """
    from ..config.atomic import locked, write_atomic
    from ..trust import seen as records
    from ..trust import sshsig

    check_may_sign(workspace)
    signer = workspace.signer  # it may ask for a passphrase: not while others wait for the lock
    folder = workspace.folder
    with locked(folder.secrets_toml):
        workspace.refresh()  # trust may have changed while we waited
        check_may_sign(workspace)
        before = read(workspace)
        edited = edit(before.boxes)
        if edited == before.boxes and before.signed:
            return
        content = Content(workspace.trust.fleet, before.content.version + 1, edited)
        data = secrets.dump(content)
        secrets.parse(data)
        signature = sshsig.armor(sshsig.sign(signer, sshsig.SECRETS, data))
        both = "".join((signature, *map(sshsig.armor, before.signatures)))
        write_atomic(secrets.signature_path(folder), both.encode())
        write_atomic(folder.secrets_toml, data)
        write_atomic(secrets.signature_path(folder), signature.encode())
        records.save(_record(workspace), records.Seen(content.version, hashlib.sha256(data).hexdigest()))


def check_may_sign(workspace: Workspace) -> None:
    """Raises TrustError when our command key may not change secrets."""
    mine = workspace.keyring.command_public({key.public_key for key in workspace.trust.command})
    if mine not in may_sign(workspace.trust):
        raise TrustError(
            "your key may not change secrets: the trust file does not let it open all of them",
            hint="sf trust show",
            code="not-granted",
        )


def may_sign(trust: Trust) -> Collection[bytes]:
    """The public keys whose signature counts: command keys, within their dates, that open every secret."""
    return {key.public_key for key in valid_keys(trust) if key.seal and "*" in key.seal.secrets}


def valid_keys(trust: Trust) -> list[CommandKey]:
    """The command keys within their dates, by this machine's clock."""
    now = time.time_ns() // 1_000_000
    return [key for key in trust.command if key.not_before <= now < key.expires]


def _read(workspace: Workspace) -> tuple[bytes, dict[bytes, bytes]]:
    """The bytes, and the signatures that are valid for them by their signers' public keys. Without the lock: a clone
    may be read-only. Bytes that were replaced meanwhile are read again.
    """
    from ..trust import sshsig

    data = secrets.read_bytes(workspace.folder)
    while True:
        try:
            found = sshsig.dearmor(secrets.signature_path(workspace.folder).read_text("ascii"))
        except (OSError, ValueError, TrustError):
            found = []
        again = secrets.read_bytes(workspace.folder)
        if again == data:
            break
        data = again
    signers = {sshsig.signer_of(blob, sshsig.SECRETS, data): blob for blob in found}
    signers.pop(b"", None)
    return data, signers


def _record(workspace: Workspace) -> Path:
    return workspace.private / "secrets.seen.json"
