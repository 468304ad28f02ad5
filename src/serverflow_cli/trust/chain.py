"""The chain of trust files, `trust/N.json`: each version vouches for the next, and an anchor for the whole.

The folder comes from git, so whoever may merge there can replace it. What they cannot do is sign.
"""

from __future__ import annotations

import dataclasses
import hashlib
import re
from collections.abc import Callable, Iterable, Sequence
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


def next_with_server(trust: Trust, server_id: str, key_names: Iterable[str]) -> Trust:
    """The next version, in which all grants of the named command keys include this server. Raises TrustError."""
    names = set(key_names)
    unknown = names - {key.name for key in trust.command}
    if unknown:
        raise TrustError(f"the trust file has no command key named {', '.join(sorted(unknown))}")

    def servers(key: CommandKey, grant: Grant) -> Iterable[str]:
        return {*grant.servers, server_id} if key.name in names else grant.servers

    return _with_servers(trust, servers)


def next_without_server(trust: Trust, server_id: str) -> Trust:
    """The next version, in which no grant includes this server. A grant without servers stays: it may get others."""
    return _with_servers(trust, lambda _, grant: set(grant.servers) - {server_id})


def _with_servers(trust: Trust, servers: Callable[[CommandKey, Grant], Iterable[str]]) -> Trust:
    def rewritten(key: CommandKey) -> CommandKey:
        grants = (dataclasses.replace(grant, servers=tuple(sorted(servers(key, grant)))) for grant in key.grants)
        return dataclasses.replace(key, grants=tuple(grants))

    return successor(trust, command=tuple(rewritten(key) for key in trust.command))


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
    trust, seen = None, set[bytes]()
    for number in numbers:
        data, blobs = read_version(folder, number)
        new = parse(data)
        if new.version != number:
            raise TrustError(f"{number}.json says that it is version {new.version}")
        signers = _signers(data, blobs)
        _check_succession(trust, new, signers)
        if anchor and number == anchor.version and anchor_of(new) != anchor:
            raise TrustError(
                f"trust version {number} is not the one that was seen here", hint="ask who changed the fleet folder"
            )
        trust, seen = new, seen | (signers & _publics(new.root))
    if trust is None:
        raise TrustError(f"no trust file in {folder}")
    if anchor and not anchor.version:
        _check_first_contact(anchor, trust, seen)
    return trust


def anchor_of(trust: Trust) -> Anchor:
    """What to remember of a version that was verified."""
    roots = tuple(sorted(map(fingerprint, _publics(trust.root))))
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
        newest = max(_numbers(folder), default=0)
        if newest != trust.version - 1:
            raise PlanChanged(
                f"the newest trust version is {newest}; {trust.version} cannot be added to it", hint="run it again"
            )
        _check_succession(load_chain(folder, None) if newest else None, trust, _signers(data, blobs))
        # The signatures first: a version exists once its .json does.
        write_atomic(folder / f"{trust.version}.json.sig", "".join(map(sshsig.armor, blobs)).encode(), 0o644)
        write_atomic(folder / f"{trust.version}.json", data, 0o644)


def _numbers(folder: Path) -> list[int]:
    if not folder.is_dir():
        return []
    return sorted(int(match[1]) for path in folder.iterdir() if (match := _FILE.fullmatch(path.name)))


def _signers(data: bytes, blobs: Iterable[bytes]) -> set[bytes]:
    """A set: however often a key signs, it counts once. Raises TrustError when a signature is not valid."""
    return {sshsig.verify(blob, sshsig.TRUST, data) for blob in blobs}


def _check_succession(previous: Trust | None, new: Trust, signers: set[bytes]) -> None:
    """The root threshold of N and of N + 1, and nothing skipped. Version 1 has only itself."""
    if previous and new.fleet != previous.fleet:
        raise TrustError(f"trust version {new.version} is of another fleet")
    if new.version != (previous.version + 1 if previous else 1):
        raise TrustError(f"trust version {new.version} cannot come here")
    for root in [previous.root, new.root] if previous else [new.root]:
        count = len(_publics(root) & signers)
        if count < root.threshold:
            raise TrustError(
                f"trust version {new.version} needs {root.threshold} root signatures and has {count}",
                hint=f"other root keys' holders sign {new.version}.json with: ssh-keygen -Y sign -n {sshsig.TRUST}",
            )


def _check_first_contact(anchor: Anchor, newest: Trust, seen: set[bytes]) -> None:
    """Each key that was read out must be root now and must itself have signed here.

    To be listed would not be enough: anyone can list a public key in a chain of their own making.
    """
    signed = {fingerprint(key) for key in seen & _publics(newest.root)}
    for root in anchor.roots:
        if root not in signed:
            raise TrustError(f"{root} has signed no version of this trust chain as one of its present root keys")


def _publics(role: Role) -> set[bytes]:
    return {key.public_key for key in role.keys}
