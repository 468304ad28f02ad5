"""`sf init`: an empty folder becomes a fleet with one root, one release and one command key."""

from __future__ import annotations

import getpass
import re
import secrets
import time
from pathlib import Path

from ..config import folder as folders
from ..config.atomic import write_atomic
from ..config.environment import Settings
from ..errors import ConfigError
from ..model.result import CommandResult
from .ask import Ask
from .grants import every_action
from .keyring import Keyring

DAY_MS = 86_400_000
YEAR_MS = 365 * DAY_MS

_FILE = """\
# Your servers and what should be on them. `sf plan` shows what would change, `sf apply` makes it so.
# Safe to commit: private keys are not in this folder.
schema = 1
timezone = "{timezone}"
"""


async def init(path: str, *, key: str | None, name: str | None, settings: Settings, ask: Ask | None) -> CommandResult:
    """Make the folder, the keys and trust version 1. Run again after an interruption it goes on; a finished fleet is
    refused.

    Raises ConfigError.
    """
    from ..trust import anchor as anchors
    from ..trust import bundle, chain, keys, seal, sshsig
    from ..trust.trustfile import CommandKey, Grant, Role, RootKey, Seal

    folder = folders.FleetFolder(Path(path).expanduser().absolute())
    if folder.fleet_toml.exists():
        raise ConfigError(f"{folder.path} is a fleet already", hint="sf server add NAME root@HOST")
    operator = _operator_name(name)
    own_key = Path(key).expanduser().absolute() if key else None
    fleet_id = _unfinished(folder) or secrets.token_hex(16)
    private = folders.data_dir() / fleet_id
    # Before anything is made, so that a key that nobody can use leaves no traces.
    own = Keyring(private, settings, ask).open(own_key) if own_key else None
    folder.path.mkdir(parents=True, exist_ok=True)
    private.mkdir(mode=0o700, parents=True, exist_ok=True)
    root, release = (
        keys.load(private / role) if (private / role).exists() else keys.generate(private / role, f"{operator} {role}")
        for role in ("root", "release")
    )
    if own_key is not None and own is not None:
        write_atomic(private / "command.path", f"{own_key}\n".encode(), 0o600)
        command = own
    else:
        command = (
            keys.load(private / "command")
            if (private / "command").exists()
            else keys.generate(private / "command", operator)
        )
    if not (private / "seal").exists():
        seal.save_seal_key(private / "seal", seal.new_seal_key())
    sealing = seal.load_seal_key(private / "seal")
    now = time.time_ns() // 1_000_000
    login = keys.public_line(command.public_key)
    if not (folder.trust / "1.json").exists():
        first = chain.build_first(
            fleet_id,
            now + 2 * YEAR_MS,
            Role(1, (RootKey(operator, root.public_key),)),
            Role(1, (RootKey(operator, release.public_key),)),
            [
                CommandKey(
                    name=operator,
                    public_key=command.public_key,
                    expires=now + YEAR_MS,
                    grants=(Grant(tuple(every_action())),),
                    not_before=now - DAY_MS,
                    ssh=(login,),
                    seal=Seal(sealing.public),
                    everything=True,
                )
            ],
        )
        chain.write_version(folder.trust, first, [root])
    trust = chain.load_chain(folder.trust, None)
    if root.public_key not in {key.public_key for key in trust.root.keys} or command.public_key not in {
        key.public_key for key in trust.command
    }:
        raise ConfigError(
            f"{folder.trust} was signed for other keys",
            hint="to join a fleet, do not init it: set SF_ROOT and use it; else start in an empty folder",
        )
    anchors.save(private / "anchor.json", chain.anchor_of(trust))
    files = bundle.collect()
    manifest = bundle.manifest(1, files)
    write_atomic(folder.path / "bundle.json.sig", sshsig.armor(sshsig.sign(release, sshsig.BUNDLE, manifest)).encode())
    write_atomic(folder.path / "bundle.json", manifest)
    if not (folder.path / ".gitignore").exists():
        write_atomic(folder.path / ".gitignore", b".sf.lock\n")
    # Last: a folder with a fleet.toml is a finished fleet.
    text = _FILE.format(timezone=_timezone())
    text += f'\n[operators.{operator}]\nsign = "{login}"\nseal = "{sealing.public}"\n'
    write_atomic(folder.fleet_toml, text.encode())
    fingerprint = keys.fingerprint(root.public_key)
    return CommandResult(
        fleet=str(folder.path),
        data={"fleet": str(folder.path), "operator": operator, "root": fingerprint, "keys": str(private)},
        notes=(
            f"back up {private}: without its root key nobody can add servers or replace a lost key",
            "one root key of one: whoever has it owns the fleet",
            "next: sf server add NAME root@HOST",
        ),
    )


def _unfinished(folder: folders.FleetFolder) -> str:
    """The fleet id that an interrupted `sf init` has already signed."""
    try:
        found = re.search(r'"fleet": "([0-9a-f]{32})"', (folder.trust / "1.json").read_text())
    except OSError:
        return ""
    return found.group(1) if found else ""


def _operator_name(name: str | None) -> str:
    given = name or getpass.getuser()
    if not re.fullmatch(r"[a-z][a-z0-9-]{0,31}", given):
        raise ConfigError(
            f"{given!r} cannot be an operator's name", hint="give one of a-z, 0-9 and -: sf init --name ana"
        )
    return given


def _timezone() -> str:
    """This machine's, as a default for schedules and display."""
    try:
        target = str(Path("/etc/localtime").readlink())
    except OSError:
        return "UTC"
    _, found, zone = target.partition("zoneinfo/")
    return zone if found and re.fullmatch(r"[A-Za-z0-9_+/-]+", zone) else "UTC"
