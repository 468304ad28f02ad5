"""`sf secret`: set, list, show, rotate, import and remove the values that fleet.toml refers to."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from serverflow_actions.kit.change import Change

from ..config import secrets
from ..config.references import references
from ..config.secrets import Boxes
from ..errors import ConfigError, PlanChanged, SfError, UsageError
from ..model.result import CommandResult, Reply, ServerResult
from . import sealing, vault
from .workspace import Workspace

Approve = Callable[[CommandResult], bool]
#: The row of a result that is about the file; no server can be called so.
ROW = "secrets.toml"


async def list_secrets(workspace: Workspace) -> CommandResult:
    """Names, who can open each, what refers to it, and whether it is as it should be."""
    boxes = vault.read(workspace).boxes
    used = references(workspace.fleet)
    rows = [
        {
            "name": name,
            "operators": _holders(boxes.get(name, {})),
            "used_by": used.get(name, []),
            "state": _state(workspace, name, boxes),
        }
        for name in sorted(boxes.keys() | used.keys())
    ]
    states = {row["state"] for row in rows}
    notes = []
    if "out of date" in states:
        notes.append("some are not sealed to exactly those whom the trust file names: sf secret reseal")
    if "missing" in states:
        notes.append("fleet.toml refers to secrets that have no value: sf secret set NAME")
    return CommandResult(workspace.label, data={"secrets": rows}, notes=tuple(notes))


async def show_secret(workspace: Workspace, name: str) -> CommandResult:
    """Open one with our own seal key. Raises ConfigError, TrustError."""
    return CommandResult(workspace.label, data={"name": name, "value": sealing.open_secret(workspace, name)})


async def set_secret(
    workspace: Workspace, name: str, value: Callable[[], str], *, plan: bool, exists: bool = False
) -> CommandResult:
    """Give a secret its value, new or in place of the one before. `value` is called once all else is well.

    With `exists` it must be there already. Raises UsageError, ConfigError, TrustError, Locked.
    """
    secrets.check_name(name)
    vault.check_may_sign(workspace)
    boxes = vault.read(workspace).boxes
    if exists:
        _check_exists(name, boxes)
    planned = _told(workspace, {name: _put(workspace, name, boxes)})
    if plan:
        return planned
    found = value()
    secrets.check_value(name, found)
    sealing.store(workspace, {name: found})
    return planned


async def import_secrets(
    workspace: Workspace, values: Mapping[str, str], *, replace: bool, plan: bool, approve: Approve
) -> CommandResult:
    """Set many at once, all or none. Raises UsageError, also for names that are there unless `replace`."""
    if not values:
        raise UsageError("there is nothing to import in it")
    for name, value in values.items():
        secrets.check_name(name)
        secrets.check_value(name, value)
    vault.check_may_sign(workspace)

    def changes(boxes: Boxes) -> dict[str, Change]:
        present = sorted(values.keys() & boxes.keys())
        if present and not replace:
            raise UsageError(f"there already: {', '.join(present)}", hint="--replace gives them the new values")
        return {name: _put(workspace, name, boxes) for name in sorted(values)}

    shown = changes(vault.read(workspace).boxes)
    planned = _told(workspace, shown)
    if plan:
        return planned
    _ask(approve, planned)

    def edit(boxes: Boxes) -> Boxes:
        if changes(boxes) != shown:
            raise PlanChanged("secrets.toml changed meanwhile", hint="run it again")
        return {**boxes, **{name: sealing.sealed(workspace.trust, name, value) for name, value in values.items()}}

    vault.change(workspace, edit)
    return planned


async def remove_secret(workspace: Workspace, name: str, *, plan: bool, approve: Approve) -> CommandResult:
    """Take one out. Refused while fleet.toml refers to it. Raises ConfigError, UsageError, TrustError."""
    vault.check_may_sign(workspace)
    boxes = vault.read(workspace).boxes
    _check_exists(name, boxes)
    _check_unused(workspace, name)
    fields = {"sealed to": (_holders(boxes[name]), None)}
    planned = _result(workspace, {name: Change("delete", "secret", name, fields)})
    if plan:
        return planned
    _ask(approve, planned)

    def edit(now: Boxes) -> Boxes:
        _check_exists(name, now)
        _check_unused(workspace, name)
        return {other: held for other, held in now.items() if other != name}

    vault.change(workspace, edit)
    return planned


async def reseal_secrets(workspace: Workspace, *, plan: bool) -> CommandResult:
    """Seal each to exactly those whom the trust file names. Changes of trust do so themselves; this heals a crash."""
    boxes = vault.read(workspace).boxes
    names = sealing.outdated(workspace, boxes)
    notes = [] if plan else sealing.reseal(workspace)
    after = boxes if plan else vault.read(workspace).boxes
    changes = {
        name: _put(workspace, name, boxes)
        for name in names
        if plan or sealing.is_current(workspace.trust, name, after[name])
    }
    return _result(workspace, changes, tuple(notes))


def _state(workspace: Workspace, name: str, boxes: Boxes) -> str:
    if name not in boxes:
        return "missing"
    return "ok" if sealing.is_current(workspace.trust, name, boxes[name]) else "out of date"


def _holders(boxes: Mapping[str, object]) -> list[str]:
    return sorted({secrets.holder(box) for box in boxes})


def _put(workspace: Workspace, name: str, boxes: Boxes) -> Change:
    after = _holders(sealing.recipients(workspace.trust, name))
    before = _holders(boxes[name]) if name in boxes else None
    return Change(
        "create" if before is None else "update",
        "secret",
        name,
        {"sealed to": (None if before == after else before, after)},
    )


def _told(workspace: Workspace, changes: Mapping[str, Change]) -> CommandResult:
    """The result of new values, with where they have to be brought."""
    used = references(workspace.fleet)
    rows = [{"secret": name, "place": place} for name in changes for place in used.get(name, [])]
    note = "these refer to it: sf apply" if rows else 'fleet.toml refers to a secret by { secret = "NAME" }'
    return _result(workspace, changes, (note,), {"references": rows})


def _result(
    workspace: Workspace,
    changes: Mapping[str, Change],
    notes: tuple[str, ...] = (),
    data: Mapping[str, object] | None = None,
) -> CommandResult:
    reply = Reply("", "done" if changes else "unchanged", tuple(changes.values()))
    return CommandResult(workspace.label, servers=(ServerResult(ROW, reply),), data=data or {}, notes=notes)


def _ask(approve: Approve, planned: CommandResult) -> None:
    if not approve(planned):
        raise SfError("nothing was done", code="declined")


def _check_exists(name: str, boxes: Boxes) -> None:
    if name not in boxes:
        raise ConfigError(f"there is no secret {name[:63]!a}", hint="sf secret list", code="no-secret")


def _check_unused(workspace: Workspace, name: str) -> None:
    if places := references(workspace.fleet).get(name):
        raise ConfigError(f"{', '.join(places)} in fleet.toml refers to secret {name}", hint="take that out first")
