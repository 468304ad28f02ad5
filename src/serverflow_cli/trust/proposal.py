"""The next trust version while it lacks signatures: `trust/proposed/N.json`, in the folder that operators share.

A proposal is worth nothing by itself: it was not signed by enough root keys, so whoever may merge can have written it.
Each signer is shown what it changes, compared with the newest version, before the signature goes in.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from ..config.atomic import locked, write_atomic
from ..errors import PlanChanged, TrustError
from . import chain, sshsig
from .trustfile import SIZE_LIMIT, Trust, body, checked, parse


@dataclass(frozen=True)
class Proposal:
    """The version as it would be, and the signatures that root keys of this or the next version have made so far."""

    trust: Trust
    blobs: tuple[bytes, ...] = ()

    @property
    def signers(self) -> set[bytes]:
        """Raw public keys."""
        return chain.signers_of(body(self.trust), self.blobs)


def load(folder: Path, newest: Trust) -> Proposal | None:
    """What waits in the trust folder to follow the newest version; None when nothing does, or it came too late.

    Signatures that are not valid, or by keys that are root in neither version, are left out. Raises TrustError for a
    file that is no trust file.
    """
    path = _path(folder, newest.version + 1)
    try:
        with path.open("rb") as file:
            data = file.read(SIZE_LIMIT + 1)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise TrustError(f"{path} cannot be read: {error.strerror}", hint="sf trust discard") from None
    try:
        trust = parse(data)
    except TrustError as error:
        raise TrustError(f"{path}: {error.message}", hint="sf trust discard") from None
    if (trust.version, trust.fleet) != (newest.version + 1, newest.fleet):
        raise TrustError(f"{path} is not the version that comes next", hint="sf trust discard")
    return Proposal(trust, tuple(_valid(_signatures(path), data, newest, trust)))


def add(folder: Path, newest: Trust, trust: Trust, blobs: Iterable[bytes]) -> int:
    """Add signatures to a proposal; the first ones make it. Once they suffice it becomes the next version.

    Returns how many root signatures are missing still. Raises PlanChanged when another proposal waits, or when the
    newest version is another one by now; TrustError when a signature is not valid.
    """
    data = body(checked(trust))
    folder.mkdir(exist_ok=True)
    with locked(folder / "trust"):
        before = chain.check_next(folder, trust)
        waiting = _or_none(folder, newest)
        if waiting and waiting.signers and waiting.trust != trust:
            raise PlanChanged(
                f"another proposal for trust version {trust.version} waits for signatures",
                hint="sf trust sign shows it, sf trust discard withdraws it",
            )
        every = [*(waiting.blobs if waiting and waiting.trust == trust else ()), *blobs]
        chain.signers_of(data, every)
        signed = {sshsig.verify(one, sshsig.TRUST, data): one for one in _valid(every, data, newest, trust)}
        lacking = chain.missing(before, trust, signed.keys())
        if lacking:
            path = _path(folder, trust.version)
            path.parent.mkdir(exist_ok=True)
            write_atomic(_sig(path), "".join(map(sshsig.armor, signed.values())).encode(), 0o644)
            write_atomic(path, data, 0o644)
        else:
            chain.write(folder, trust.version, data, list(signed.values()))
            _clear(folder)
    return lacking


def discard(folder: Path) -> bool:
    """Withdraw what waits; whether there was something."""
    with locked(folder / "trust"):
        return _clear(folder)


def _or_none(folder: Path, newest: Trust) -> Proposal | None:
    """What waits, if it can be read: anything else there is nobody's proposal."""
    try:
        return load(folder, newest)
    except TrustError:
        return None


def _clear(folder: Path) -> bool:
    """Whatever is in its way, also what somebody has put there."""
    found = (folder / "proposed").exists()
    if found:
        shutil.rmtree(folder / "proposed")
    return found


def _valid(blobs: Iterable[bytes], data: bytes, newest: Trust, trust: Trust) -> Iterable[bytes]:
    roots = chain.publics(newest.root) | chain.publics(trust.root)
    for blob in blobs:
        with contextlib.suppress(TrustError):
            if chain.signers_of(data, [blob]) <= roots:
                yield blob


def _signatures(path: Path) -> list[bytes]:
    try:
        with _sig(path).open(encoding="ascii") as file:
            return sshsig.dearmor(file.read(SIZE_LIMIT))
    except (OSError, UnicodeDecodeError, TrustError):
        return []  # nobody's word is lost that cannot be given again


def _path(folder: Path, number: int) -> Path:
    return folder / "proposed" / f"{number}.json"


def _sig(path: Path) -> Path:
    return path.with_name(path.name + ".sig")
