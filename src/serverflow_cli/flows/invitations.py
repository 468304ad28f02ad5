"""Keys that are made, or named, on this machine: an invitation's, and such as exist already."""

from __future__ import annotations

import getpass
import re
from pathlib import Path
from typing import TYPE_CHECKING

from ..config.atomic import write_atomic
from ..errors import ConfigError, UsageError
from ..model.result import CommandResult
from .workspace import Workspace

if TYPE_CHECKING:
    from .keyring import Keyring

ROLES = ("command", "root", "release", "seal")


async def invite(
    workspace: Workspace, *, name: str | None, root: bool, release: bool, key: str | None, out: str | None
) -> CommandResult:
    """Make our keys for this fleet, where they are not there yet, and an invitation with their public halves.

    Raises ConfigError; TrustError when this machine does not trust the fleet folder.
    """
    from ..trust import keyfile, keys, seal
    from ..trust.invitation import Invitation

    trust = workspace.trust  # a new clone asks for the root fingerprint here
    who, private = operator_name(name), workspace.private
    private.mkdir(mode=0o700, parents=True, exist_ok=True)
    if key:
        point_to(workspace.keyring, private, "command", Path(key).expanduser().absolute())
    publics = {
        role: _public(workspace.keyring, private, role, f"{who} {role}".removesuffix(" command"))
        for role, wanted in (("command", True), ("root", root), ("release", release))
        if wanted
    }
    if not (private / "seal").exists():
        seal.save_seal_key(private / "seal", seal.new_seal_key())
    invitation = Invitation(
        fleet=trust.fleet,
        name=who,
        command=publics["command"],
        login=(keys.public_line(publics["command"]),),
        seal=seal.load_seal_key(private / "seal").public,
        root=publics.get("root"),
        release=publics.get("release"),
    )
    data = {"name": who, "fingerprint": invitation.fingerprint, "invitation": invitation.text}
    if out and out != "-":
        keyfile.create(Path(out), invitation.text, 0o644)
        data["file"] = out
    return CommandResult(
        workspace.label,
        data=data,
        notes=(
            f"its fingerprint is {invitation.fingerprint}: tell it to whoever adds it, by voice or in person",
            "a root key's holder adds it with: sf key add FILE",
            f"your private keys are in {private}: back them up",
        ),
    )


def _public(keyring: Keyring, private: Path, role: str, comment: str) -> bytes:
    """The public half of a key of this machine, which is made if there is none."""
    from ..trust import keys

    path = keyring.path(role)
    return (keys.read(path) if path.exists() else keys.generate(private / role, comment)).public_key


async def import_key(workspace: Workspace, file: str, role: str, *, copy: bool) -> CommandResult:
    """Use a key that exists, from a backup or in an ssh-agent, on this machine. A pointer to it is kept, or with `copy`
    the key itself.

    Raises ConfigError, also when this machine has another key in that role.
    """
    from ..trust import keyfile, keys, seal

    path = Path(file).expanduser().absolute()
    private = workspace.private
    private.mkdir(mode=0o700, parents=True, exist_ok=True)
    if role == "seal":
        seal.save_seal_key(private / "seal", seal.load_seal_key(path))
        return CommandResult(workspace.label, data={"role": role, "file": str(private / "seal")})
    public = keys.read(path).public_key
    if copy:
        if path.suffix == ".pub":
            raise UsageError("a public key cannot be copied in place of a private one", hint="leave --copy out")
        _check_free(workspace.keyring, role)
        keyfile.create(private / role, keyfile.read(path))
    else:
        point_to(workspace.keyring, private, role, path)
    trust = workspace.trust
    listed = {
        "command": {key.public_key for key in trust.command},
        "root": {key.public_key for key in trust.root.keys},
        "release": {key.public_key for key in trust.release.keys},
    }[role]
    fingerprint = keys.fingerprint(public)
    notes = () if public in listed else (f"{fingerprint} is no {role} key of this fleet yet",)
    return CommandResult(workspace.label, data={"role": role, "fingerprint": fingerprint, "file": file}, notes=notes)


def point_to(keyring: Keyring, private: Path, role: str, path: Path) -> None:
    """Keep a pointer to a key elsewhere; nothing happens when it is there. Raises ConfigError."""
    from ..trust import keys

    keys.read(path)
    if keyring.path(role) != path:
        _check_free(keyring, role)
        write_atomic(private / f"{role}.path", f"{path}\n".encode(), 0o600)


def _check_free(keyring: Keyring, role: str) -> None:
    there = keyring.path(role)
    if there.exists():
        raise ConfigError(f"this machine has a {role} key already: {there}", hint="move it away first, if it is old")


def operator_name(name: str | None) -> str:
    """What was given, else our login. Raises ConfigError when it cannot be a name in the trust file."""
    given = name or getpass.getuser()
    if not re.fullmatch(r"[a-z][a-z0-9-]{0,31}", given):
        raise ConfigError(f"{given!r} cannot be an operator's name", hint="give one of a-z, 0-9 and -: --name ana")
    return given
