"""To whom the fleet's secrets are sealed, which the signed trust file says; putting away and opening them.

What fleet.toml says of operators' seal keys is a wish: whoever may merge there could read along.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from itertools import chain, count
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..config import secrets
from ..config.references import references
from ..errors import ConfigError, SfError, TrustError, UsageError
from ..model.result import CommandResult, ServerResult
from ..plan.desired import file_key
from . import vault
from .workspace import Workspace

if TYPE_CHECKING:
    from ..config.secrets import Boxes
    from ..plan.resource import Resource
    from ..trust.seal import SealKey
    from ..trust.trustfile import CommandKey, Trust

NOT_OURS = "not-sealed"


def recipients(trust: Trust, name: str) -> dict[str, str]:
    """Who can open a secret of this name, now: box name → public seal key. While a key is rotated, both of them."""
    seals = [(key.name, key.seal) for key in vault.valid_keys(trust) if key.seal]
    return {
        secrets.box_name(holder, seal.key): seal.key
        for holder, seal in seals
        if "*" in seal.secrets or name in seal.secrets
    }


def sealed(trust: Trust, name: str, value: str) -> dict[str, bytes]:
    """A value's boxes, one for each recipient. Raises UsageError, and ConfigError for a key that protects nothing."""
    from ..trust.seal import seal

    plain = secrets.labelled(name, value)
    boxes = {box: seal(key, plain) for box, key in recipients(trust, name).items()}
    if not boxes:
        raise UsageError(f"secret {name} would be sealed to nobody", hint="sf trust show")
    return boxes


def store(workspace: Workspace, values: Mapping[str, str]) -> None:
    """Seal values to whom trust names and write them, all or none. Raises SfError."""
    vault.change(
        workspace, lambda boxes: {**boxes, **{name: sealed(workspace.trust, name, v) for name, v in values.items()}}
    )


def is_current(trust: Trust, name: str, boxes: Mapping[str, bytes]) -> bool:
    """Whether a secret's boxes are those that trust asks for."""
    return boxes.keys() == recipients(trust, name).keys()


def check_seal(workspace: Workspace) -> None:
    """Raises SfError when `--seal` could not keep what a server is about to make, or we could not open it then."""
    vault.check_may_sign(workspace)
    vault.read(workspace)
    wanted = recipients(workspace.trust, "").keys()
    if not any(secrets.is_box_of(box, key.public) for box in wanted for key in _own_keys(workspace)):
        raise TrustError("the trust file does not name the seal key of this machine", hint="sf trust show")
    _ = workspace.signer


def put_away(workspace: Workspace, result: CommandResult) -> CommandResult:
    """Seal what would be shown once into secrets.toml. What cannot be sealed is shown: it is kept nowhere else.

    So is what counts only once somebody confirms the change: the file must not hold what may never come to be.
    """
    servers, notes = [], list(result.notes)
    for server in result.servers:
        if server.reply and server.reply.secrets and server.reply.outcome == "pending-confirm":
            notes.append(f"not sealed, since it waits for confirmation on {server.name}: sf secret set, once it counts")
        elif server.reply and server.reply.secrets:
            names, kept = _put_away(workspace, server.reply.secrets, server.name)
            notes += [f"sealed into secrets.toml: sf secret show {name}" for name in names]
            server = ServerResult(server.name, replace(server.reply, secrets=kept), server.error)
        servers.append(server)
    return replace(result, servers=tuple(servers), notes=tuple(notes))


def _put_away(workspace: Workspace, shown: Mapping[str, str], server: str) -> tuple[list[str], dict[str, str]]:
    """The names under which values were sealed, and the values that could not be."""
    names, kept = [], {}
    for label, value in shown.items():
        name = re.sub(r"[^a-z0-9]+", "_", f"{server} {label}".lower()).strip("_")
        try:
            names.append(_store_beside(workspace, name, value))
        except SfError:
            kept[label] = value
    return names, kept


def _store_beside(workspace: Workspace, name: str, value: str) -> str:
    """Under this name or, where a secret has it already, under the first that is free of NAME_2, NAME_3 and so on: no
    value that somebody may need is lost. Returns the name. Raises SfError.
    """
    free = name

    def edit(boxes: Boxes) -> Boxes:
        nonlocal free
        free = next(one for one in chain((name,), (f"{name}_{n}" for n in count(2))) if one not in boxes)
        return {**boxes, free: sealed(workspace.trust, free, value)}

    vault.change(workspace, edit)
    return free


def open_secret(workspace: Workspace, name: str) -> str:
    """The value, opened with our own seal key. Raises ConfigError, TrustError."""
    return _open(name, vault.read(workspace).boxes, _own_keys(workspace))


def resolve(workspace: Workspace, stanza: Any) -> dict[str, str]:
    """The values of all secrets that a part of the fleet file refers to, by their names in secrets.toml.

    An area calls this right before it hands them to an action's secret parameters. Raises ConfigError that names all
    that are missing, TrustError.
    """
    return _resolved(workspace, references(stanza))


def resolve_for(
    workspace: Workspace, resources: Iterable[Resource], given: Mapping[str, str] | None = None
) -> dict[str, str]:
    """The same for what resources refer to. Values that are `given` are not looked up: they are sealed only once the
    plan that needs them was approved.
    """
    known = given or {}
    wanted: dict[str, list[str]] = {}
    for resource in resources:
        place = f"{resource.table}.{resource.key.partition('.')[2]}"
        for param, name in resource.secrets.items():
            at = f"{place}.{file_key(resource.action, param)}"
            if name not in known and at not in wanted.setdefault(name, []):
                wanted[name].append(at)
    return {**known, **_resolved(workspace, wanted)}


def openable(
    workspace: Workspace, resources: Sequence[Resource], given: Mapping[str, str] | None = None
) -> tuple[list[Resource], list[str]]:
    """Those of which we hold all secrets, and a note for each other one: a deploy key applies the rest of the file.
    `given` are values that secrets.toml does not have yet.

    Raises ConfigError for a secret that nobody has, TrustError.
    """
    ours, notes = [], []
    for resource in resources:
        try:
            resolve_for(workspace, [resource], given)
        except ConfigError as error:
            if error.code != NOT_OURS and _own_keys(workspace, needed=False):
                raise
            notes.append(f"{resource.server}: {resource.key} is left out: {error.message}")
        else:
            ours.append(resource)
    return ours, list(dict.fromkeys(notes))


def _resolved(workspace: Workspace, wanted: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """`wanted` are names, with the places that refer to them."""
    if not wanted:
        return {}
    boxes = vault.read(workspace).boxes
    if missing := {name: places for name, places in wanted.items() if name not in boxes}:
        lines = [f"{place} refers to secret {name}, which has no value" for name, at in missing.items() for place in at]
        raise ConfigError("\n".join(lines), hint=f"sf secret set {next(iter(missing))}", code="no-secret")
    keys = _own_keys(workspace)
    return {name: _open(name, boxes, keys) for name in wanted}


def readable_by(workspace: Workspace, key: CommandKey) -> list[str] | None:
    """The secrets that a key's holder can open as secrets.toml is now: to be given new values when the holder leaves.

    None where the file cannot be trusted, so that nobody knows: it must not stand in the way of taking a key out.
    """
    if key.seal is None:
        return []
    box = secrets.box_name(key.name, key.seal.key)
    try:
        return sorted(name for name, boxes in vault.read(workspace).boxes.items() if box in boxes)
    except SfError:
        return None


def remember(workspace: Workspace) -> None:
    """Before a change of trust: what a leaving key has signed stays good on the machines that verified it until then.

    A file that cannot be trusted is not remembered, and does not stand in the way.
    """
    with suppress(SfError):
        vault.read(workspace)


def outdated(workspace: Workspace, boxes: Boxes) -> list[str]:
    """The secrets whose boxes are not those that trust asks for."""
    return sorted(name for name, held in boxes.items() if not is_current(workspace.trust, name, held))


def reseal(workspace: Workspace) -> list[str]:
    """Bring every box to whom trust names now, and the signature to a key that counts. Returns notes.

    What is only sealed to too many needs not be opened; what we cannot open is told by name and stays as it is. Run
    again it changes nothing. Raises SfError; the old file stands then.
    """
    if not secrets.read_bytes(workspace.folder):
        return []
    before = vault.read(workspace)
    if before.signed and not outdated(workspace, before.boxes):
        return []
    done: list[str] = []
    closed: list[str] = []

    def edit(boxes: Boxes) -> Boxes:
        keys = _own_keys(workspace, needed=False)
        edited = dict(boxes)
        for name in outdated(workspace, boxes):
            try:
                edited[name] = _resealed(workspace.trust, name, boxes, keys)
                done.append(name)
            except SfError:
                closed.append(name)
        return edited

    vault.change(workspace, edit)
    notes = [f"sealed anew to whom the trust file names: {', '.join(done)}"] if done else []
    if closed:
        notes.append(f"sealed as before, since they do not open here: {', '.join(closed)}; elsewhere: sf secret reseal")
    return notes


def _resealed(trust: Trust, name: str, boxes: Boxes, keys: Iterable[SealKey]) -> Mapping[str, bytes]:
    wanted = recipients(trust, name)
    if wanted and wanted.keys() <= boxes[name].keys():
        return {box: boxes[name][box] for box in wanted}
    return sealed(trust, name, _open(name, boxes, keys))


def _open(name: str, boxes: Boxes, keys: Iterable[SealKey]) -> str:
    """From the box that is named as one for our key; no other is tried."""
    from ..trust.seal import unseal

    if name not in boxes:
        raise ConfigError(f"there is no secret {name[:63]!a}", hint="sf secret list", code="no-secret")
    for key in keys:
        for box, data in boxes[name].items():
            if secrets.is_box_of(box, key.public):
                return secrets.value_of(name, unseal(key, data))
    holders = ", ".join(sorted(set(map(secrets.holder, boxes[name]))))
    raise ConfigError(f"secret {name} is not sealed to this key", hint=f"it opens for {holders}", code=NOT_OURS)


def _own_keys(workspace: Workspace, *, needed: bool = True) -> list[SealKey]:
    """Our seal key; while it is rotated, the next and the old one too. Raises ConfigError when there must be one."""
    from ..trust.seal import load_seal_key, seal_key_from_text

    if workspace.settings.seal_key:
        return [seal_key_from_text(workspace.settings.seal_key)]
    paths: list[Path] = [workspace.keyring.path(name) for name in ("seal", "seal.next", "seal.old")]
    found = [load_seal_key(path) for path in paths if path.exists()]
    return found if found or not needed else [load_seal_key(paths[0])]
