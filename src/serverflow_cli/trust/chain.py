"""The chain of trust files, `trust/N.json`: each version vouches for the next, and an anchor for the whole.

The folder comes from git, so whoever may merge there can replace it. What they cannot do is sign.
"""

from __future__ import annotations

import dataclasses
import hashlib
import re
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import Any

from ..config.atomic import locked, write_atomic
from ..errors import PlanChanged, TrustError
from . import sshsig
from .anchor import Anchor
from .keys import fingerprint
from .sshsig import Signer
from .trustfile import SIZE_LIMIT, CommandKey, Grant, Role, Trust, body, checked, parse

_FILE = re.compile(r"([1-9][0-9]{0,8})\.json")


def build_first(fleet: str, expires: int, root: Role, release: Role, command: Iterable[CommandKey]) -> Trust:
    """Version 1, which its own root keys sign. Raises TrustError when it says something that servers refuse."""
    return checked(Trust(fleet, 1, expires, root, release, tuple(command)))


def successor(trust: Trust, **changes: Any) -> Trust:
    """The next version with some fields replaced. Raises TrustError when it says something that servers refuse."""
    return checked(dataclasses.replace(trust, version=trust.version + 1, **changes))


def next_without_server(trust: Trust, server_id: str) -> Trust:
    """The next version, in which no grant includes this server. A grant without servers stays: it may get others."""

    def without(grant: Grant) -> Grant:
        return dataclasses.replace(grant, servers=tuple(one for one in grant.servers if one != server_id))

    keys = (dataclasses.replace(key, grants=tuple(map(without, key.grants))) for key in trust.command)
    return successor(trust, command=tuple(keys))


def load_chain(folder: Path, anchor: Anchor | None) -> Trust:
    """The newest version, after every version from 1 on was verified against the one before and against the anchor.

    Without an anchor the chain vouches for itself only: for showing its fingerprints to someone who will compare them.

    Raises TrustError, in particular for a folder that went back in time or belongs to another fleet.
    """
    numbers = _numbers(folder)
    if not numbers:
        raise TrustError(f"no trust file in {folder}", hint="in a new fleet: sf init")
    if anchor and numbers[-1] < anchor.version:
        raise TrustError(
            f"the fleet folder went back to trust version {numbers[-1]}; version {anchor.version} was seen here",
            hint="pull the fleet folder",
        )
    if numbers != list(range(1, numbers[-1] + 1)):
        raise TrustError(f"a version is missing among the trust files in {folder}")
    trust, seen, signers = None, set[bytes](), set[bytes]()
    for number in numbers:
        data, blobs = read_version(folder, number)
        new = parse(data)
        if new.version != number:
            raise TrustError(f"{number}.json says that it is version {new.version}")
        signers = signers_of(data, blobs)
        _check_succession(trust, new, signers)
        if anchor and number == anchor.version and anchor_of(new) != anchor:
            raise TrustError(
                f"trust version {number} is not the one that was seen here",
                hint="two may have signed at once, or somebody changed the fleet folder: ask. If this one is to stay, "
                "remove this machine's anchor.json, and compare the root fingerprint anew",
            )
        trust, seen = new, seen | (signers & publics(new.root))
    if trust is None:
        raise TrustError(f"no trust file in {folder}")
    if anchor and not anchor.version:
        _check_first_contact(anchor, trust, seen, signers)
    return trust


def anchor_of(trust: Trust) -> Anchor:
    """What to remember of a version that was verified."""
    roots = tuple(sorted(map(fingerprint, publics(trust.root))))
    return Anchor(roots, trust.version, hashlib.sha256(body(trust)).hexdigest(), trust.fleet)


def read_version(folder: Path, number: int) -> tuple[bytes, list[bytes]]:
    """The bytes of N.json and the signatures of N.json.sig, as a server takes them. Raises TrustError."""
    try:
        with (folder / f"{number}.json").open("rb") as file:
            data = file.read(SIZE_LIMIT + 1)
        with (folder / f"{number}.json.sig").open(encoding="ascii") as signatures:
            return data, sshsig.dearmor(signatures.read(SIZE_LIMIT))
    except (OSError, UnicodeDecodeError) as error:
        raise TrustError(f"trust version {number} cannot be read: {error}") from None


def write_version(folder: Path, trust: Trust, signers: Sequence[Signer], signatures: Sequence[bytes] = ()) -> None:
    """Sign and add the next version. `signatures` are blobs that other root keys' holders made over `body(trust)`.

    Raises PlanChanged when the folder has this version already, or misses the one before; TrustError when the
    signatures are not enough for the version before and for this one.
    """
    data = body(checked(trust))
    blobs = [*(sshsig.sign(signer, sshsig.TRUST, data) for signer in signers), *signatures]
    folder.mkdir(exist_ok=True)
    with locked(folder / "trust"):
        before = check_next(folder, trust)
        _check_succession(before, trust, signers_of(data, blobs))
        write(folder, trust.version, data, blobs)


def check_next(folder: Path, trust: Trust) -> Trust | None:
    """The version in the folder that this one follows; None for the first.

    Raises PlanChanged when another one came in between.
    """
    newest = max(_numbers(folder), default=0)
    if newest != trust.version - 1:
        raise PlanChanged(
            f"the newest trust version is {newest}; {trust.version} cannot be added to it", hint="run it again"
        )
    return load_chain(folder, None) if newest else None


def write(folder: Path, number: int, data: bytes, blobs: Sequence[bytes]) -> None:
    """Add a version whose signatures suffice, under the folder's lock. A version exists once its .json does, so its
    signatures go first.
    """
    write_atomic(folder / f"{number}.json.sig", "".join(map(sshsig.armor, blobs)).encode(), 0o644)
    write_atomic(folder / f"{number}.json", data, 0o644)


def _numbers(folder: Path) -> list[int]:
    if not folder.is_dir():
        return []
    return sorted(int(match[1]) for path in folder.iterdir() if (match := _FILE.fullmatch(path.name)))


def signers_of(data: bytes, blobs: Iterable[bytes]) -> set[bytes]:
    """A set: however often a key signs, it counts once. Raises TrustError when a signature is not valid."""
    return {sshsig.verify(blob, sshsig.TRUST, data) for blob in blobs}


def _check_succession(previous: Trust | None, new: Trust, signers: set[bytes]) -> None:
    """The root threshold of N and of N + 1, and nothing skipped. Version 1 has only itself."""
    if previous and new.fleet != previous.fleet:
        raise TrustError(f"trust version {new.version} is of another fleet")
    if new.version != (previous.version + 1 if previous else 1):
        raise TrustError(f"trust version {new.version} cannot come here")
    if missing(previous, new, signers):
        raise TrustError(
            f"trust version {new.version} lacks root signatures: {missing(previous, new, signers)}",
            hint="other root keys' holders sign it: sf trust sign",
        )


def missing(previous: Trust | None, new: Trust, signers: Collection[bytes]) -> int:
    """How many more root keys have to sign: the threshold of the version before counts, and that of the new one."""
    roles = [previous.root, new.root] if previous else [new.root]
    return max(0, *(role.threshold - len(publics(role) & set(signers)) for role in roles))


def _check_first_contact(anchor: Anchor, newest: Trust, seen: set[bytes], last: set[bytes]) -> None:
    """Each key that was read out must be root now, and must itself have signed; of several, where it was told how many
    have to sign, so many must have signed the newest version, and none can be added with fewer.

    To be listed would not be enough: anyone can list a public key in a chain of their own making. Nor would it be
    enough to have signed some version: whoever stole one key could go on from a time when one was enough.
    """
    roots = publics(newest.root)
    listed = {fingerprint(key) for key in roots}
    for root in anchor.roots:
        if root not in listed:
            raise TrustError(f"{root} is not a root key of this trust chain", code="wrong-root")
    signed = {fingerprint(key) for key in (last if anchor.needed else seen) & roots} & set(anchor.roots)
    needed = anchor.needed or len(anchor.roots)
    if len(signed) < needed or newest.root.threshold < anchor.needed:
        raise TrustError(
            f"{len(signed)} of the root keys that were read out have signed this trust chain as it is, not {needed}",
            code="wrong-root",
        )


def publics(role: Role) -> set[bytes]:
    """The raw public keys of a role."""
    return {key.public_key for key in role.keys}
