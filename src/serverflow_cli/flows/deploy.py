"""`sf key deploy`: a key for a CI job. Made, signed and pushed in one go; what the CI system stores is told once.

Until it has been told, the private half waits in a file of our private folder: interrupted anywhere, the same command
goes on with the same key.
"""

from __future__ import annotations

import contextlib
import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..config.edit import Editor
from ..errors import ConfigError, SfError, UsageError
from ..model.result import CommandResult, Report
from .keys import DAY_MS, Rights, named, now_ms, requested, successor
from .signing import Approve, carry_out
from .workspace import Workspace

if TYPE_CHECKING:
    from ..trust.deploykey import DeployKey
    from ..trust.seal import SealKey
    from ..trust.trustfile import CommandKey, Grant, Trust

LONGEST_MS = 90 * DAY_MS


@dataclass(frozen=True)
class DeployRequest:
    """The command line. `addresses` are where the job may come from."""

    name: str
    rights: Rights
    addresses: tuple[str, ...] = ()
    out: str = "-"


@dataclass(frozen=True)
class _Waiting:
    """A key that was made and not told yet. `expires` in ms since 1970: fleet.toml may say it already."""

    path: Path
    key: DeployKey
    seal: SealKey | None
    expires: int


async def deploy(
    workspace: Workspace, request: DeployRequest, *, plan: bool, approve: Approve, report: Report
) -> CommandResult:
    """Raises UsageError when there is a key of this name; OutcomeUnknown while root signatures are missing."""
    from ..trust import keyfile

    trust, waiting = workspace.trust, load_waiting(workspace, request.name)
    listed = named(trust, request.name)
    ours = [key for key in listed if waiting and key.public_key == waiting.key.signing.public_key]
    if listed and not ours:
        raise UsageError(
            f"there is a key {request.name} already", hint=f"sf key rotate {request.name}, or sf key revoke it"
        )
    if request.out != "-" and Path(request.out).exists():
        raise ConfigError(f"{request.out} exists and is kept", hint="give another --out")

    def wish(editor: Editor) -> None:
        editor.remove_elements("grants", lambda stanza: stanza.get("to") == request.name)
        editor.append_element("grants", rights.stanza(request.name))

    expires = request.rights.expires or now_ms() // 1000 * 1000 + LONGEST_MS
    if waiting is None and not plan:
        waiting = keep_waiting(workspace, request.name, expires, with_seal=bool(request.rights.secrets))
    rights = replace(request.rights, expires=waiting.expires if waiting else expires)
    grant = requested(workspace, rights, wish)
    key = ours[0] if ours else _entry(request, rights, grant, waiting)
    after = successor(workspace, command=(*(one for one in trust.command if one not in ours), key))
    try:
        result = await carry_out(workspace, after, plan=plan, approve=approve, report=report, wish=wish)
    except SfError as error:
        if error.code == "declined" and not ours:
            told(workspace, request.name)
        if error.code == "needs-signatures":
            error.hint += "; then run this again, and it prints the key"
        raise
    if plan or waiting is None:
        return result
    environment = environment_of(workspace.trust, waiting)
    if request.out != "-":
        text = "".join(f"{name}={value}\n" for name, value in environment.items())
        keyfile.create(Path(request.out), text)
    return replace(
        result,
        data={"name": request.name, **({"environment": environment} if request.out == "-" else {"file": request.out})},
        notes=(*result.notes, "shown once: store it in your CI system's secrets"),
    )


def told(workspace: Workspace, name: str) -> None:
    """The private half has reached whoever asked: forget it."""
    waiting_path(workspace, name).unlink(missing_ok=True)


def _entry(request: DeployRequest, rights: Rights, grant: tuple[Grant, ...], waiting: _Waiting | None) -> CommandKey:
    """As the trust file will have it; a plan shows it with a key that nobody keeps."""
    from ..trust import deploykey, keys
    from ..trust.trustfile import CommandKey, Seal

    key = waiting.key if waiting else deploykey.new(request.name)
    seal = Seal(waiting.seal.public, rights.secrets) if waiting and waiting.seal else None
    return CommandKey(
        name=request.name,
        public_key=key.signing.public_key,
        expires=rights.expires or now_ms() + LONGEST_MS,
        grants=grant,
        not_before=now_ms() - DAY_MS,
        ssh=(keys.public_line(key.login.public_key),),
        addresses=request.addresses,
        seal=seal,
    )


def environment_of(trust: Trust, waiting: _Waiting) -> dict[str, str]:
    """The variables that the job needs."""
    from ..trust.anchor import read_out

    environment = {"SF_KEY": waiting.key.text, "SF_ROOT": read_out(trust.root)}
    if waiting.seal:
        environment["SF_SEAL_KEY"] = waiting.seal.text
    return environment


# --- the file of a key that was not told yet -------------------------------------------------------------------------


def waiting_path(workspace: Workspace, name: str) -> Path:
    return workspace.private / f"deploy-{name}"


def load_waiting(workspace: Workspace, name: str) -> _Waiting | None:
    """Raises ConfigError when the file is damaged."""
    from ..trust import deploykey, keyfile, seal

    path = waiting_path(workspace, name)
    if not path.exists():
        return None
    with contextlib.suppress(ValueError, KeyError, TypeError):
        kept: dict[str, Any] = json.loads(keyfile.read(path))
        sealing = seal.seal_key_from_text(kept["seal"]) if kept["seal"] else None
        return _Waiting(path, deploykey.from_text(kept["key"]), sealing, int(kept["expires"]))
    raise ConfigError(f"{path} is damaged", hint="remove it, and sf key revoke the key if it is in the trust file")


def keep_waiting(workspace: Workspace, name: str, expires: int, *, with_seal: bool) -> _Waiting:
    """Make a key and keep it until it was told."""
    from ..trust import deploykey, keyfile, seal

    sealing = seal.new_seal_key() if with_seal else None
    waiting = _Waiting(waiting_path(workspace, name), deploykey.new(name), sealing, expires)
    kept = {"key": waiting.key.text, "seal": sealing.text if sealing else "", "expires": expires}
    keyfile.create(waiting.path, json.dumps(kept) + "\n")
    return waiting
