"""`sf key`: who may sign what. Every change is a next trust version; see signing.py for how it comes about."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from ..config.edit import Editor
from ..config.load import parse, read_text
from ..errors import TrustError, UsageError
from ..model.result import CommandResult, Report
from . import grants
from .ask import Ask
from .signing import Approve, carry_out, words
from .times import rfc3339
from .workspace import Workspace

if TYPE_CHECKING:
    from ..model.fleet import Fleet
    from ..trust.invitation import Invitation
    from ..trust.trustfile import CommandKey, Grant, Role, RootKey, Trust

DAY_MS = 86_400_000


@dataclass(frozen=True)
class Rights:
    """What a key is to get: patterns of actions, a selector, parameters with their values, until when (ms), and the
    names of the secrets that it may open (`*` is all).
    """

    allow: tuple[str, ...] = ()
    on: str = "all"
    where: Mapping[str, str] | None = None
    expires: int | None = None
    secrets: tuple[str, ...] = ()

    def stanza(self, name: str) -> dict[str, Any]:
        """As an element of [[grants]]."""
        values: dict[str, Any] = {"to": name, "allow": list(self.allow), "on": self.on}
        if self.where:
            values["where"] = dict(self.where)
        if self.expires is not None:
            values["expires"] = datetime.fromtimestamp(self.expires // 1000, UTC)
        return values


async def list_keys(workspace: Workspace) -> CommandResult:
    """All keys of the newest trust version."""
    return CommandResult(workspace.label, data={"keys": list(rows(workspace))})


def rows(workspace: Workspace) -> Iterator[dict[str, Any]]:
    """A line for each key: who, which role, until when, what for."""
    from ..trust.difference import grants_text
    from ..trust.keys import fingerprint

    trust, told = workspace.trust, words(workspace)
    for key in trust.command:
        yield {
            "name": key.name,
            "role": "command",
            "fingerprint": fingerprint(key.public_key),
            "expires_at": rfc3339(key.expires),
            "may": grants_text(key.grants, told) or "nothing yet",
        }
    for role, members in (("root", trust.root), ("release", trust.release)):
        for member in members.keys:
            yield {
                "name": member.name,
                "role": role,
                "fingerprint": fingerprint(member.public_key),
                "expires_at": rfc3339(trust.expires),
                "may": f"sign {'trust' if role == 'root' else 'bundles'}, {members.threshold} of {len(members.keys)}",
            }


async def show_key(workspace: Workspace, name: str) -> CommandResult:
    """One name: all its keys, each grant by itself. Raises UsageError."""
    from ..trust.difference import grants_text
    from ..trust.keys import fingerprint, public_line, ssh_fingerprint

    told = words(workspace)
    found = [
        {
            "role": "command",
            "fingerprint": fingerprint(key.public_key),
            "key": public_line(key.public_key),
            "ssh_keys": [ssh_fingerprint(line) for line in key.ssh],
            "from": list(key.addresses) or ["anywhere"],
            "valid_from": rfc3339(key.not_before),
            "expires_at": rfc3339(key.expires),
            "opens_secrets": list(key.seal.secrets) if key.seal else [],
            "grants": [{"may": grants_text([grant], told) or "nothing yet"} for grant in key.grants],
        }
        for key in named(workspace.trust, name)
    ]
    others = [row for row in rows(workspace) if row["name"] == name and row["role"] != "command"]
    wishes = [{"allow": list(wish.allow), "on": wish.on} for wish in grants.wishes_of(workspace.fleet, name)]
    if not found and not others:
        raise _unknown(workspace, name)
    data: dict[str, Any] = {"name": name, "keys": [*found, *others]}
    return CommandResult(workspace.label, data=data | ({"fleet_toml": wishes} if wishes else {}))


def named(trust: Trust, name: str) -> list[CommandKey]:
    """The command keys of that name; two while the key is rotated, the old one first."""
    return [key for key in trust.command if key.name == name]


def _unknown(workspace: Workspace, name: str) -> UsageError:
    known = ", ".join(dict.fromkeys(str(row["name"]) for row in rows(workspace)))
    return UsageError(f"the fleet has no key {name}", hint=f"there are {known}", code="no-key")


# --- what changes trust ----------------------------------------------------------------------------------------------


async def grant(
    workspace: Workspace, name: str, rights: Rights, *, plan: bool, approve: Approve, report: Report
) -> CommandResult:
    """Let a key do more, or longer: a stanza of fleet.toml, signed. Raises UsageError, TrustError."""
    held = named(workspace.trust, name)
    if not held:
        raise _unknown(workspace, name)
    if rights.allow and all(key.everything for key in held):
        raise UsageError(f"{name} may do everything already", hint="narrow it in fleet.toml, then: sf trust sign")
    notes = grants.check(rights, workspace.fleet.servers)
    for key in held:
        notes += grants.unchecked(name, rights, workspace.fleet, key.grants, workspace.ids)
    notes = list(dict.fromkeys(notes))

    def wish(editor: Editor) -> None:
        if rights.expires is not None:
            set_expiry(editor, name, rights.expires)
        if rights.allow:
            editor.append_element("grants", rights.stanza(name))

    new = requested(workspace, rights, wish)
    keys = tuple(_extended(key, rights, new) if key.name == name else key for key in workspace.trust.command)
    result = await carry_out(
        workspace, successor(workspace, command=keys), plan=plan, approve=approve, report=report, wish=wish
    )
    return replace(result, notes=(*notes, *result.notes))


def requested(workspace: Workspace, rights: Rights, wish: Callable[[Editor], None]) -> tuple[Grant, ...]:
    """The grant that the command line asks for, and not what else fleet.toml may say by now: nobody has read that.

    Raises ConfigError, UsageError, also when fleet.toml would not be valid with it.
    """
    fleet = edited(workspace, wish)
    return (grants.granted(rights, fleet.servers, workspace.ids),) if rights.allow else ()


def _extended(key: CommandKey, rights: Rights, new: tuple[Grant, ...]) -> CommandKey:
    """With more grants, another expiry, more secrets. Raises UsageError."""
    key = replace(key, grants=(*key.grants, *(grant for grant in new if grant not in key.grants)))
    if rights.expires is not None:
        key = replace(key, expires=rights.expires)
    if not rights.secrets:
        return key
    if key.seal is None:
        raise UsageError(f"{key.name} has no seal key, so nothing can be sealed to it", hint="sf key deploy --secret")
    names = dict.fromkeys((*key.seal.secrets, *rights.secrets))
    return replace(key, seal=replace(key.seal, secrets=("*",) if "*" in names else tuple(names)))


async def revoke(
    workspace: Workspace, name: str, only: str | None, *, plan: bool, approve: Approve, report: Report
) -> CommandResult:
    """Take a name out of all roles, or out of one; its SSH login closes with its command key. With a fingerprint, that
    one key.

    Raises UsageError, and TrustError when too few root keys would be left.
    """
    from ..trust.keys import fingerprint
    from . import deploy

    trust = workspace.trust

    def leaves(role: str, key: CommandKey | RootKey) -> bool:
        return only in (None, role) and name in (key.name, fingerprint(key.public_key))

    leaving = [key for key in trust.command if leaves("command", key)]
    command = tuple(key for key in trust.command if key not in leaving)
    root = replace(trust.root, keys=tuple(key for key in trust.root.keys if not leaves("root", key)))
    release = replace(trust.release, keys=tuple(key for key in trust.release.keys if not leaves("release", key)))
    if (command, root, release) == (trust.command, trust.root, trust.release):
        raise _unknown(workspace, name)
    if workspace.public_key in {key.public_key for key in leaving}:
        raise UsageError(
            "this is the key that you act with", hint="another operator takes it out; to replace it: sf key rotate"
        )
    for role, kept in (("root", root), ("release", release)):
        if len(kept.keys) < kept.threshold:
            left = f"{len(kept.keys) or 'no'} {role} key{'s' if len(kept.keys) > 1 else ''}"
            needed = "1 has" if kept.threshold == 1 else f"{kept.threshold} have"
            raise TrustError(
                f"{left} would be left, and {needed} to sign",
                hint=f"add another {role} key first, or sf trust threshold --role {role}; "
                f"to take out its command key alone: sf key revoke {name} --role command",
            )
    gone = {key.name for key in leaving} - {key.name for key in command}

    def wish(editor: Editor) -> None:
        editor.remove_elements("grants", lambda stanza: stanza.get("to") in gone)
        for one in gone:
            editor.remove_entry("operators", one)

    after = successor(workspace, command=command, root=root, release=release)
    result = await carry_out(workspace, after, plan=plan, approve=approve, report=report, wish=wish)
    if not plan:
        for key in leaving:  # a deploy key that was never told must not come back
            deploy.told(workspace, key.name)
    return result


@dataclass(frozen=True)
class Admission:
    """What an invitation's keys are let in to: beside commands, the root and release roles where it offers keys."""

    rights: Rights
    root: bool = False
    release: bool = False
    addresses: tuple[str, ...] = ()
    fingerprint: str | None = None


async def add(
    workspace: Workspace, text: str, admission: Admission, ask: Ask, *, plan: bool, approve: Approve, report: Report
) -> CommandResult:
    """Sign the public keys of an invitation in. Raises ConfigError, TrustError, UsageError."""
    from ..trust import invitation
    from ..trust.keys import public_line
    from ..trust.trustfile import CommandKey, RootKey, Seal

    invited = invitation.parse(text)
    _check_invited(workspace, invited)
    notes = grants.check(admission.rights, workspace.fleet.servers)
    notes += grants.unchecked(invited.name, admission.rights, workspace.fleet, (), workspace.ids)
    if not plan:
        _compare(invited, admission.fingerprint, ask)
    trust, rights, now = workspace.trust, admission.rights, now_ms()
    wishes: dict[str, Any] = {"sign": public_line(invited.command), "seal": invited.seal or None}

    def wish(editor: Editor) -> None:
        editor.set_entry("operators", invited.name, wishes)
        editor.remove_elements("grants", lambda stanza: stanza.get("to") == invited.name)
        if rights.allow:
            editor.append_element("grants", rights.stanza(invited.name))

    held = next((key for key in trust.command if key.public_key == invited.command), None)
    key = CommandKey(
        name=invited.name,
        public_key=invited.command,
        expires=rights.expires or (held.expires if held else now + 365 * DAY_MS),
        grants=requested(workspace, rights, wish) or (grants.full_grant(workspace.ids.values()),),
        not_before=held.not_before if held else now - DAY_MS,
        ssh=invited.login,
        addresses=admission.addresses,
        seal=Seal(invited.seal, rights.secrets or (() if rights.allow else ("*",))) if invited.seal else None,
        everything=not rights.allow,
    )
    command = (*(one for one in trust.command if one.public_key != invited.command), key)
    roles = {}
    for name, wanted, public in (
        ("root", admission.root, invited.root),
        ("release", admission.release, invited.release),
    ):
        if wanted:
            if public is None:
                raise UsageError(f"the invitation offers no {name} key", hint=f"sf key invitation --{name}")
            roles[name] = _with(getattr(trust, name), RootKey(invited.name, public))
    after = successor(workspace, command=command, **roles)
    result = await carry_out(workspace, after, plan=plan, approve=approve, report=report, wish=wish)
    return replace(result, notes=(*notes, *result.notes))


def _with(role: Role, key: Any) -> Role:
    return role if any(one.public_key == key.public_key for one in role.keys) else replace(role, keys=(*role.keys, key))


def _check_invited(workspace: Workspace, invited: Invitation) -> None:
    if invited.fleet != workspace.trust.fleet:
        raise TrustError("the invitation is for another fleet", code="wrong-fleet")
    others = [key.name for key in workspace.trust.command if key.public_key == invited.command]
    if others and others != [invited.name]:
        raise UsageError(f"this command key is there already, as {others[0]}")
    if any(key.public_key != invited.command for key in named(workspace.trust, invited.name)):
        raise UsageError(
            f"there is a key {invited.name} already, and it is another one",
            hint=f"another name: sf key invitation --name NAME; in its place: sf key revoke {invited.name} first",
        )


def _compare(invited: Invitation, given: str | None, ask: Ask) -> None:
    """That the invitation is the one that its sender made. Raises TrustError."""
    if given is not None:
        if given.strip() != invited.fingerprint:
            raise TrustError(f"the invitation's fingerprint is {invited.fingerprint}, not the given one")
        return
    question = (
        f"The invitation of {invited.name} has the fingerprint {invited.fingerprint}. Compare it with {invited.name}, "
        "by voice or in person. Is it the same?"
    )
    if not ask.confirm(question, otherwise=f"add --fingerprint {invited.fingerprint} once you have compared it"):
        raise TrustError("the invitation was not accepted", code="declined")


def set_expiry(editor: Editor, name: str, expires: int) -> None:
    """In the stanzas that name an expiry for this key: they say when the key expires."""
    moment = datetime.fromtimestamp(expires // 1000, UTC)
    editor.update_elements(
        "grants", lambda stanza: stanza.get("to") == name and "expires" in stanza, {"expires": moment}
    )


def edited(workspace: Workspace, wish: Callable[[Editor], None]) -> Fleet:
    """fleet.toml as a wish would leave it; nothing is written. Raises ConfigError."""
    editor = Editor(read_text(workspace.folder.fleet_toml))
    wish(editor)
    return parse(editor.text)


def successor(workspace: Workspace, **changes: Any) -> Trust:
    """The version after the newest, with some fields replaced. Raises TrustError when servers would refuse it."""
    from ..trust import chain

    return chain.successor(workspace.trust, **changes)


def now_ms() -> int:
    """This machine's clock, in ms since 1970."""
    return time.time_ns() // 1_000_000
