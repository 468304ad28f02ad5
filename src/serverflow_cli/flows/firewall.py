"""`sf firewall`: edit the stanza of a selector, then apply what all stanzas make of its servers' firewalls."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Literal

from serverflow_actions import registry

from ..config.edit import Editor
from ..errors import UsageError
from ..model.result import CommandResult, Report
from ..plan.desired import FIREWALL, ROLE_RULES
from .safe import USUAL, Safety
from .stanza import edited, take_away, unless_changed
from .workspace import Workspace

if TYPE_CHECKING:
    from ..model.fleet import Firewall

Approve = Callable[[CommandResult], bool]
Verb = Literal["allow", "deny", "remove"]

_TABLE = "firewall"


async def change_rules(
    workspace: Workspace,
    verb: Verb,
    selector: str,
    rules: Sequence[str],
    *,
    plan: bool,
    approve: Approve,
    timeout_s: int | None,
    lock_wait_s: int,
    report: Report,
    safety: Safety = USUAL,
) -> CommandResult:
    """Allow, deny or no longer mention rules, in the stanza whose `on` is this selector; it is made when there is none.

    Raises UsageError when a rule is to be removed that the stanza does not have.
    """
    workspace.select(selector)
    stanzas = workspace.fleet.firewall
    name = next((name for name, stanza in stanzas.items() if stanza.on == selector), "")
    if verb == "remove":
        for rule in rules:
            if not name or rule not in (*stanzas[name].allow, *stanzas[name].deny):
                raise _not_there(workspace, selector, rule)
    name = name or _free_name(selector, stanzas)

    def change(editor: Editor) -> None:
        if not editor.exists(_TABLE, name):
            editor.set_entry(_TABLE, name, {"on": selector})
        for rule in rules:
            for key in ("allow", "deny"):
                if key == verb:
                    editor.add_to_list(_TABLE, name, key, rule)
                else:
                    editor.remove_from_list(_TABLE, name, key, rule)

    return await edited(
        workspace,
        unless_changed(workspace, _TABLE, name, change),
        lambda key: key == FIREWALL,
        selector,
        plan,
        approve,
        timeout_s,
        lock_wait_s,
        report,
        safety,
    )


async def disable(
    workspace: Workspace,
    selector: str,
    *,
    plan: bool,
    approve: Approve,
    timeout_s: int | None,
    lock_wait_s: int,
    report: Report,
    safety: Safety = USUAL,
) -> CommandResult:
    """Take the firewall off servers, then their stanzas out of the file.

    Raises UsageError when a stanza is for other servers too: these would lose what it says.
    """
    names = workspace.select(selector)
    stanzas = {
        name: stanza
        for name, stanza in workspace.fleet.firewall.items()
        if not set(names).isdisjoint(workspace.select(stanza.on))
    }
    for name, stanza in stanzas.items():
        if not set(workspace.select(stanza.on)) <= set(names):
            raise UsageError(
                f"{_TABLE}.{name} is on {stanza.on}, and so for other servers too",
                hint=f"--on {stanza.on}, or change `on` in fleet.toml first",
            )
    action = registry.load("firewall.disable")
    return await take_away(
        workspace,
        action,
        {},
        names,
        FIREWALL,
        [(_TABLE, name) for name in stanzas],
        plan=plan,
        approve=approve,
        timeout_s=timeout_s or action.timeout,
        lock_wait_s=lock_wait_s,
        report=report,
        safety=safety,
    )


def _free_name(selector: str, taken: Mapping[str, Firewall]) -> str:
    """A name for a new stanza, made from its selector: `@app,!web3` is `app-web3`."""
    words = re.sub(r"[^a-z0-9]+", "-", selector).strip("-")
    stem = (words if words[:1].isalpha() else f"on-{words}")[:28].strip("-")
    names = [stem, *(f"{stem}-{number}" for number in range(2, len(taken) + 3))]
    return next(name for name in names if name not in taken)


def _not_there(workspace: Workspace, selector: str, rule: str) -> UsageError:
    """With the place where the rule is instead."""
    names = set(workspace.select(selector))
    for name, stanza in workspace.fleet.firewall.items():
        if rule in (*stanza.allow, *stanza.deny) and names & set(workspace.select(stanza.on)):
            hint = f"{_TABLE}.{name} has it: --on {stanza.on}"
            return UsageError(f"no firewall stanza for {selector} has the rule {rule}", hint=hint)
    roles = {role for name in sorted(names) for role in workspace.fleet.servers[name].roles}
    role = next((role for role in sorted(roles) if rule in ROLE_RULES.get(role, ())), "")
    hint = f"servers of the role {role} have it by default: deny it, or set defaults = false" if role else ""
    return UsageError(f"no firewall stanza for {selector} has the rule {rule}", hint=hint)
