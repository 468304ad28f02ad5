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
from . import grants
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
    """The command line. `addresses` are where the job may come from; `lifetime` in ms, 90 days when it is None."""

    name: str
    rights: Rights
    addresses: tuple[str, ...] = ()
    lifetime: int | None = None
    out: str = "-"

    @property
    def asked(self) -> dict[str, Any]:
        """All that decides what the key may do, so that an interrupted run goes on with the same or not at all."""
        where = sorted((self.rights.where or {}).items())
        return {
            "allow": list(self.rights.allow),
            "on": self.rights.on,
            "where": [list(pair) for pair in where],
            "secrets": list(self.rights.secrets),
            "from": list(self.addresses),
            "lifetime": self.lifetime,
        }


@dataclass(frozen=True)
class Waiting:
    """A key that was made and not told yet, and what was asked for then. Times in ms since 1970."""

    path: Path
    key: DeployKey
    seal: SealKey | None
    made_at: int
    expires: int
    asked: dict[str, Any]


async def deploy(
    workspace: Workspace, request: DeployRequest, *, plan: bool, approve: Approve, report: Report
) -> CommandResult:
    """Raises UsageError when there is a key of this name; OutcomeUnknown while root signatures are missing."""
    from ..trust import keyfile

    out = Path(request.out).absolute()
    if request.out != "-":
        if out.exists():
            raise ConfigError(f"{request.out} exists and is kept", hint="give another --out")
        if out.is_relative_to(workspace.folder.path.absolute()):
            raise UsageError("--out is in the fleet folder, which is for git", hint="give a place outside of it")
    notes = grants.check(request.rights, workspace.fleet.servers)
    notes += grants.unchecked(request.name, request.rights, workspace.fleet, (), workspace.ids)
    if not plan:
        workspace.root_signer()  # before anything is made
    waiting = _waiting_for(workspace, request)
    if waiting is None:
        expires = now_ms() // 1000 * 1000 + (request.lifetime or LONGEST_MS)
        waiting = new_waiting(workspace, request, expires, keep=not plan)
    rights = replace(request.rights, expires=waiting.expires)

    def wish(editor: Editor) -> None:
        editor.remove_elements("grants", lambda stanza: stanza.get("to") == request.name)
        editor.append_element("grants", rights.stanza(request.name))

    key = _entry(request, rights, requested(workspace, rights, wish), waiting)
    others = (one for one in workspace.trust.command if one.public_key != key.public_key)
    after = successor(workspace, command=(*others, key))
    try:
        result = await carry_out(workspace, after, plan=plan, approve=approve, report=report, wish=wish)
    except SfError as error:
        if error.code == "declined":
            told(workspace, request.name)
        if error.code == "needs-signatures":
            error.hint += "; then run this again, and it prints the key"
        raise
    result = replace(result, notes=(*notes, *result.notes))
    if plan:
        return result
    environment = environment_of(workspace.trust, waiting)
    if request.out != "-":
        keyfile.create(out, "".join(f"{name}={value}\n" for name, value in environment.items()))
    return replace(
        result,
        data={"name": request.name, **({"environment": environment} if request.out == "-" else {"file": request.out})},
        notes=(*result.notes, "shown once: store it in your CI system's secrets"),
    )


def _waiting_for(workspace: Workspace, request: DeployRequest) -> Waiting | None:
    """What an interrupted run of the same request made. Raises UsageError when a key of the name is signed that is not
    this one, or was asked for otherwise.
    """
    waiting, listed = load_waiting(workspace, request.name), named(workspace.trust, request.name)
    same = waiting is not None and waiting.asked == request.asked
    if listed and not (waiting and listed[0].public_key == waiting.key.signing.public_key):
        raise UsageError(
            f"there is a key {request.name} already", hint=f"sf key rotate {request.name}, or sf key revoke it"
        )
    if listed and not same:
        raise UsageError(
            f"an interrupted run has signed {request.name} with other rights",
            hint=f"sf key revoke {request.name}, then run this again",
        )
    if waiting and not same:
        told(workspace, request.name)  # nobody has signed it, and nobody has seen it
        return None
    return waiting


def told(workspace: Workspace, name: str) -> None:
    """The private half has reached whoever asked, or is worth nothing any more: forget it."""
    waiting_path(workspace, name).unlink(missing_ok=True)


def rights_of(key: CommandKey) -> Rights:
    """For a key in the place of this one: which secrets it opens decides whether it needs a seal key."""
    return Rights(secrets=key.seal.secrets if key.seal else ())


def _entry(request: DeployRequest, rights: Rights, grant: tuple[Grant, ...], waiting: Waiting) -> CommandKey:
    from ..trust import keys
    from ..trust.trustfile import CommandKey, Seal

    return CommandKey(
        name=request.name,
        public_key=waiting.key.signing.public_key,
        expires=waiting.expires,
        grants=grant,
        not_before=waiting.made_at - DAY_MS,
        ssh=(keys.public_line(waiting.key.login.public_key),),
        addresses=request.addresses,
        seal=Seal(waiting.seal.public, rights.secrets) if waiting.seal else None,
    )


def environment_of(trust: Trust, waiting: Waiting) -> dict[str, str]:
    """The variables that the job needs."""
    from ..trust.anchor import read_out

    environment = {"SF_KEY": waiting.key.text, "SF_ROOT": read_out(trust.root)}
    if waiting.seal:
        environment["SF_SEAL_KEY"] = waiting.seal.text
    return environment


# --- the file of a key that was not told yet -------------------------------------------------------------------------


def waiting_path(workspace: Workspace, name: str) -> Path:
    return workspace.private / f"deploy-{name}"


def load_waiting(workspace: Workspace, name: str) -> Waiting | None:
    """Raises ConfigError when the file is damaged."""
    from ..trust import deploykey, keyfile, seal

    path = waiting_path(workspace, name)
    if not path.exists():
        return None
    with contextlib.suppress(ValueError, KeyError, TypeError):
        kept: dict[str, Any] = json.loads(keyfile.read(path))
        return Waiting(
            path=path,
            key=deploykey.from_text(kept["key"]),
            seal=seal.seal_key_from_text(kept["seal"]) if kept["seal"] else None,
            made_at=int(kept["made_at"]),
            expires=int(kept["expires"]),
            asked=dict(kept["asked"]),
        )
    raise ConfigError(f"{path} is damaged", hint="remove it, and sf key revoke the key if it is in the trust file")


def new_waiting(workspace: Workspace, request: DeployRequest, expires: int, *, keep: bool) -> Waiting:
    """Make a key; with `keep` it stays in a file until it was told. A plan shows one that nobody keeps."""
    from ..trust import deploykey, keyfile, seal

    sealing = seal.new_seal_key() if request.rights.secrets else None
    path, key = waiting_path(workspace, request.name), deploykey.new(request.name)
    waiting = Waiting(path, key, sealing, now_ms(), expires, request.asked)
    if keep:
        kept = {
            "key": key.text,
            "seal": sealing.text if sealing else "",
            "made_at": waiting.made_at,
            "expires": expires,
            "asked": waiting.asked,
        }
        keyfile.create(path, json.dumps(kept) + "\n")
    return waiting
