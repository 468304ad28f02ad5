"""The fleet's signed bundle: the runner and registry of the installed `sf`, vouched for by release keys.

bundle.json and bundle.json.sig lie in the fleet folder, which whoever may merge there can change. So nothing of them is
believed but what enough release keys signed, and no version that is older than the newest that this machine has seen.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ..config.atomic import locked, write_atomic
from ..errors import PlanChanged, TrustError
from ..model.result import Report
from .workspace import Workspace

if TYPE_CHECKING:
    from ..trust.bundle import Manifest
    from ..trust.seen import Seen
    from ..trust.sshsig import Signer

#: No fleet signs so many bundles between two looks at its folder: whoever jumps further burns the numbers.
LONGEST_JUMP = 1000
#: Codes of what keeps this sf's bundle from servers, but not the trust file, and so no revocation.
NOT_BROUGHT = ("bundle-unsigned", "no-release-key", "release-threshold", "proposal-differs", "older-sf")


@dataclass(frozen=True)
class SignedBundle:
    """Manifest, its armoured signatures, and the files in the manifest's order."""

    version: int
    manifest: bytes
    signature: str
    files: tuple[bytes, ...]


@dataclass(frozen=True)
class Listed:
    """A bundle.json: its bytes, what they say, and who signed them (raw release key → SSHSIG blob)."""

    manifest: bytes
    read: Manifest
    signed: dict[bytes, bytes]

    @property
    def version(self) -> int:
        return self.read.version

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.manifest).hexdigest()

    @property
    def armored(self) -> str:
        from ..trust import sshsig

        return "".join(map(sshsig.armor, self.signed.values()))


@dataclass(frozen=True)
class Draft:
    """What a release key signs next: the bundle of the installed `sf`, as the version after `base`.

    With `same`, bundle.json has these bytes already and only wants signatures. `before` is what `next` is compared
    with: nothing, where the base has too few signatures and was never verified here.
    """

    next: Listed
    base: Listed
    same: bool
    before: Manifest


# --- what is there ---------------------------------------------------------------------------------------------------


def current(workspace: Workspace) -> SignedBundle:
    """The bundle of the fleet folder, if it is what this `sf` carries. Raises TrustError when it is not, or is not
    signed.
    """
    from ..trust import bundle

    listed = stored(workspace)
    files = bundle.collect()
    if bundle.manifest(listed.version, files) != listed.manifest:
        raise TrustError(
            "this sf carries another runner or registry than the fleet's bundle",
            code="bundle-differs",
            hint="sf registry diff",
        )
    if lacking(workspace, listed):
        raise _too_few(workspace, listed)
    return SignedBundle(listed.version, listed.manifest, listed.armored, tuple(files[path] for path in sorted(files)))


def stored(workspace: Workspace) -> Listed:
    """bundle.json, with the signatures of this fleet's release keys; there may be too few of them only where exactly
    this one was verified on this machine before, when keys or the threshold have changed since.

    Raises TrustError for one that too few release keys signed, or that is not the newest.
    """
    listed = look(workspace)
    if not _vouched(workspace, listed):
        raise _too_few(workspace, listed)
    return listed


def look(workspace: Workspace) -> Listed:
    """The same for people to look at: one release key may be all that stands for it.

    Raises TrustError for one that no release key signed, or that is not the newest.
    """
    listed, seen = _listed(workspace), _seen(workspace)
    if not listed.signed and not _vouched(workspace, listed):
        if _was_signed(workspace, listed):
            raise TrustError(
                "bundle.json is signed by a release key that has left",
                code="bundle-unsigned",
                hint="sf registry sign",
            )
        raise TrustError("bundle.json is not signed by a release key of this fleet", hint="git log bundle.json")
    if listed.version < seen.version:
        raise TrustError(
            f"bundle.json went back to version {listed.version}; version {seen.version} was seen here",
            code="older-version",
            hint="pull the fleet folder, or see who put it back: git log bundle.json",
        )
    if seen.version and listed.version > seen.version + LONGEST_JUMP:
        raise TrustError(
            f"bundle.json jumped from version {seen.version}, which was seen here, to {listed.version}",
            code="bundle-jump",
            hint=f"git log bundle.json; if that is right, remove {_record(workspace)}",
        )
    if listed.version == seen.version and listed.sha256 != seen.sha256:
        raise TrustError(
            f"bundle.json is another version {listed.version} than the one that was seen here",
            code="bundle-forked",
            hint="two were signed at once (git log bundle.json): sf registry sign makes the version after both",
        )
    _remember(workspace, listed)
    return listed


def _too_few(workspace: Workspace, listed: Listed) -> TrustError:
    return TrustError(
        f"bundle.json is signed by too few release keys: {who_must_sign(workspace, listed)}",
        code="bundle-unsigned",
        hint="sf registry sign",
    )


def preview(workspace: Workspace) -> tuple[int, tuple[str, ...]]:
    """The version that servers would get, without signing, for a plan; else 0, and what keeps this sf's from them."""
    try:
        return current(workspace).version, ()
    except TrustError as error:
        if error.code not in ("bundle-differs", "bundle-unsigned"):
            raise
    try:
        return _to_sign_alone(workspace).next.version, ()
    except TrustError as error:
        if error.code not in NOT_BROUGHT:
            raise
        return 0, (not_brought(error),)


def ensure(workspace: Workspace, report: Report) -> SignedBundle:
    """The current bundle. Where one release key is enough, ours signs a new version when the installed `sf` has
    changed.

    Raises TrustError without a release key, when others have to sign too, and when this sf is the older one.
    """
    try:
        return current(workspace)
    except TrustError as error:
        if error.code not in ("bundle-differs", "bundle-unsigned"):
            raise
    draft = _to_sign_alone(workspace)
    signer = workspace.release_signer()
    report({"t": "note", "text": f"signing bundle version {draft.next.version}"})
    sign(workspace, draft, signer)
    return current(workspace)


def not_brought(error: TrustError) -> str:
    """A remark for people: what this sf carries stays here."""
    return f"the bundle of this sf was not brought: {error.message}" + (f" ({error.hint})" if error.hint else "")


# --- who signed, who has to ------------------------------------------------------------------------------------------


def lacking(workspace: Workspace, listed: Listed) -> int:
    """How many more release keys have to sign."""
    return max(0, workspace.trust.release.threshold - len(listed.signed))


def signer_names(workspace: Workspace, listed: Listed) -> list[str]:
    """The holders of release keys that signed, as the trust file names them."""
    return [key.name for key in workspace.trust.release.keys if key.public_key in listed.signed]


def who_must_sign(workspace: Workspace, listed: Listed) -> str:
    """`1 more of bob, cem`."""
    others = (key.name for key in workspace.trust.release.keys if key.public_key not in listed.signed)
    return f"{lacking(workspace, listed)} more of {', '.join(dict.fromkeys(others))} must sign"


# --- signing ---------------------------------------------------------------------------------------------------------


def draft(workspace: Workspace, *, unsigned: bool = False) -> Draft:
    """What a signature would be for: bundle.json when it has the installed bytes already, else the version after it,
    with the signatures that a proposal of exactly these bytes has.

    `unsigned` takes a bundle.json that only keys which have left had signed as one to follow: a person is asked, and
    the difference is told against nothing. Raises TrustError when another bundle was proposed, or
    bundle.json is not to be followed.
    """
    from ..trust import bundle

    try:
        base, forked = look(workspace), False
    except TrustError as error:
        forked = error.code == "bundle-forked"
        if not forked and not (unsigned and error.code == "bundle-unsigned"):
            raise
        base = _listed(workspace)
    files = bundle.collect()
    if not forked and bundle.manifest(base.version, files) == base.manifest:
        return Draft(base, base, same=True, before=base.read)
    manifest = bundle.manifest(base.version + 1, files)
    proposal = proposed(workspace, base)
    if proposal and proposal.manifest != manifest:
        names = ", ".join(dict.fromkeys(signer_names(workspace, proposal)))
        raise TrustError(
            f"the bundle that {names} proposed is not what this sf carries",
            code="proposal-differs",
            hint=f"install the same sf; to propose yours instead, remove {_proposal(workspace).name} first",
        )
    before = base.read if _vouched(workspace, base) else bundle.Manifest(base.version, {})
    return Draft(proposal or Listed(manifest, bundle.parse(manifest), {}), base, same=False, before=before)


def proposed(workspace: Workspace, base: Listed) -> Listed | None:
    """The next version, when a release key's holder has proposed one and it takes several. What nobody signed proposes
    nothing.
    """
    path = _proposal(workspace)
    if workspace.trust.release.threshold == 1 or not path.exists():
        return None
    try:
        found = _read(workspace, path)
    except TrustError:
        return None
    return found if found.signed and found.version == base.version + 1 else None


def sign(workspace: Workspace, approved: Draft, signer: Signer) -> Listed:
    """Add a signature to exactly what was approved. With the last one that it takes, bundle.json changes; until then
    the proposal waits beside it. Returns what was signed, with all signatures.

    Raises PlanChanged when bundle.json or the proposal has become another one, TrustError for a key without the role.
    """
    from ..trust import sshsig

    if signer.public_key not in {key.public_key for key in workspace.trust.release.keys}:
        raise TrustError("the release key on this machine is not one of this fleet's", hint="sf trust show")
    path = workspace.folder.path / "bundle.json"
    with locked(path):
        now = draft(workspace, unsigned=True)  # what was approved is compared next
        if (now.base.manifest, now.next.manifest) != (approved.base.manifest, approved.next.manifest):
            raise PlanChanged("another bundle was signed in the meantime", hint="run it again")
        blob = now.next.signed.get(signer.public_key) or sshsig.sign(signer, sshsig.BUNDLE, now.next.manifest)
        signed = Listed(now.next.manifest, now.next.read, {**now.next.signed, signer.public_key: blob})
        if not now.same and lacking(workspace, signed):
            _write(_proposal(workspace), signed, _proposal_signatures(workspace))
            return signed
        _write(path, signed, now.base.armored)
        for left in (_proposal(workspace), _signature_of(_proposal(workspace))):
            left.unlink(missing_ok=True)
        if not lacking(workspace, signed):
            _remember(workspace, signed)
        return signed


def _to_sign_alone(workspace: Workspace) -> Draft:
    """What our one signature would make current, without anybody being asked. Raises TrustError."""
    found = draft(workspace)
    if workspace.trust.release.threshold > 1:
        raise TrustError(
            f"{workspace.trust.release.threshold} release keys have to sign what this sf carries: "
            f"{who_must_sign(workspace, found.next)}",
            code="release-threshold",
            hint="sf registry sign",
        )
    gone = found.before.actions.keys() - found.next.read.actions.keys()
    if gone:
        raise TrustError(
            f"this sf is older than the fleet's bundle: it lacks {', '.join(sorted(gone)[:5])}",
            code="older-sf",
            hint="update sf; to take these actions off the servers: sf registry sign",
        )
    return found


# --- files -----------------------------------------------------------------------------------------------------------


def _listed(workspace: Workspace) -> Listed:
    return _read(workspace, workspace.folder.path / "bundle.json")


def _proposal(workspace: Workspace) -> Path:
    return workspace.folder.path / "bundle.proposed.json"


def _signature_of(path: Path) -> Path:
    return path.with_name(f"{path.name}.sig")


def _read(workspace: Workspace, path: Path) -> Listed:
    from ..trust import bundle, sshsig

    try:
        with path.open("rb") as file:
            manifest = file.read(bundle.SIZE_LIMIT + 1)
        with _signature_of(path).open(encoding="ascii") as signatures:
            armored = signatures.read(bundle.SIZE_LIMIT)
    except (OSError, ValueError) as error:
        raise TrustError(f"{path} cannot be read: {error}", hint=f"git log {path.name}") from error
    blobs = sshsig.dearmor(armored)
    return Listed(manifest, bundle.parse(manifest), bundle.signers(manifest, blobs, workspace.trust.release))


def _write(path: Path, listed: Listed, before: str) -> None:
    """The signature first, beside the one of what stands there: a crash in between leaves the one or the other."""
    write_atomic(_signature_of(path), (listed.armored + before).encode())
    write_atomic(path, listed.manifest)
    write_atomic(_signature_of(path), listed.armored.encode())


def _proposal_signatures(workspace: Workspace) -> str:
    """Those of a proposal that is being replaced or added to."""
    try:
        return _read(workspace, _proposal(workspace)).armored
    except TrustError:
        return ""


def _record(workspace: Workspace) -> Path:
    return workspace.private / "bundle.seen.json"


def _seen(workspace: Workspace) -> Seen:
    from ..trust import seen

    return seen.load(_record(workspace))


def _vouched(workspace: Workspace, listed: Listed) -> bool:
    """Whether enough release keys stand for it now, or did so when this machine saw exactly this one."""
    seen = _seen(workspace)
    return not lacking(workspace, listed) or (listed.version, listed.sha256) == (seen.version, seen.sha256)


def _was_signed(workspace: Workspace, listed: Listed) -> bool:
    """Whether a key signed it that was a release key in an earlier trust version."""
    from ..trust import bundle, chain, sshsig, trustfile

    blobs = sshsig.dearmor(_signature_of(workspace.folder.path / "bundle.json").read_text("ascii"))
    for number in range(1, workspace.trust.version):
        then = trustfile.parse(chain.read_version(workspace.folder.trust, number)[0])
        if bundle.signers(listed.manifest, blobs, then.release):
            return True
    return False


def _remember(workspace: Workspace, listed: Listed) -> None:
    from ..trust import seen

    found = seen.Seen(listed.version, listed.sha256)
    if not lacking(workspace, listed) and found != _seen(workspace):
        seen.save(_record(workspace), found)
