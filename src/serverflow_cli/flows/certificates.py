"""`sf cert`: where certificates come from, and which there are besides servers' own. Servers get them by themselves."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from serverflow_actions import registry

from ..config.edit import Editor
from ..config.keypath import Path
from ..config.load import parse, read_text
from ..config.options import parse_edited
from ..errors import UsageError
from ..model import selector as selectors
from ..model.fleet import Fleet
from ..model.result import CommandResult
from ..plan.proofs import challenge_of
from ..plan.wishes import OWN, certificate_of, wishes
from . import follow, superfluous
from .config import How
from .stages import together
from .stanza import take_away
from .workspace import Workspace

_TABLE = "certificates"
#: In secrets.toml: what the servers prove with, and the account's key (RFC 8555 section 7.3.4).
TOKEN, EAB = "acme_token", "acme_eab"


def needs_token(fleet: Fleet) -> bool:
    """Without a zone at PowerDNS servers prove by Cloudflare's API."""
    return not any(challenge_of(fleet, server) for server in fleet.servers)


async def setup(
    workspace: Workspace, values: Mapping[str, Any], secrets: Callable[[], Mapping[str, str]], how: How
) -> CommandResult:
    """Write [acme], and let the servers that it selects get certificates for their own names.

    `secrets` are asked for: the token where one is needed, and the key of an external account binding.
    """
    given = {}
    stanza = dict(values)
    wanted = {key: name for key, name in (("token", TOKEN), ("eab_hmac_key", EAB)) if stanza.pop(key, False)}
    stanza |= {key: {"secret": name} for key, name in wanted.items()}

    def change(editor: Editor) -> None:
        editor.set_entry("", "acme", stanza)

    _check_options(workspace, change, ("acme",))
    for key, name in wanted.items():
        given[name] = secrets()[key]
    acme = workspace.fleet.acme
    if needs_token(workspace.fleet) and not given.get(TOKEN) and not (acme and acme.token):
        raise _unproved(workspace.fleet)

    def without(fleet: Fleet) -> Fleet:
        return fleet.model_copy(update={"acme": None})

    return await follow.made(workspace, change, how, given, without=without)


async def add(workspace: Workspace, name: str, selector: str, names: Sequence[str], how: How) -> CommandResult:
    """One more certificate, for any names in the zones of the file."""
    if workspace.fleet.acme is None:
        raise UsageError("nobody has said where certificates come from", hint="sf cert setup")
    if name in workspace.fleet.certificates or name == OWN:
        raise UsageError(f"there is a certificate {name} already", hint="sf cert list --on all")
    stanza = {"on": selector, "names": list(names)}

    def change(editor: Editor) -> None:
        editor.set_entry(_TABLE, name, stanza)

    _check_options(workspace, change, (_TABLE, name))
    return await follow.made(workspace, change, how)


async def remove(workspace: Workspace, name: str, selector: str, how: How) -> CommandResult:
    """Off the servers, then its stanza when it is off all of them, then the names by which they proved it."""
    present = workspace.fleet.certificates.get(name)
    names = workspace.select(selector)
    for key, route in workspace.fleet.routes.items():
        for server in selectors.resolve(workspace.fleet.servers, route.on):
            if server in names and certificate_of(workspace.fleet, server, key) == name:
                raise UsageError(f"routes.{key} uses it on {server}", hint=f"sf route edit {key} --certificate none")
    every = present is not None and set(selectors.resolve(workspace.fleet.servers, present.on)) <= set(names)
    editor = Editor(read_text(workspace.folder.fleet_toml))
    if every:
        editor.remove_entry(_TABLE, name)
    fleet = parse(editor.text)
    _check_unwanted(fleet, name, names)
    used, silent = await superfluous.users(workspace, names, how.report)
    for server in names:
        if routes := used.get((server, name)):
            raise UsageError(
                f"nginx on {server} still names it, for {', '.join(routes)}",
                hint=f"sf action run route.remove --on {server} name={routes[0]}",
            )
    action = registry.load("cert.remove")
    told = [server for server in names if server not in silent]

    async def take(how: How) -> CommandResult:
        done = await take_away(
            workspace,
            action,
            {"name": name, "purge": True},
            told,
            f"cert.{name}",
            [(_TABLE, name)] if every and not silent else [],
            plan=how.plan,
            approve=how.approve,
            timeout_s=how.timeout_s or action.timeout,
            lock_wait_s=how.lock_wait_s,
            report=how.report,
            safety=how.safety,
        )
        return together(done, CommandResult(servers=tuple(silent.values())))

    taken = {(server, f"cert.{name}") for server in names}
    return await follow.removed(workspace, take, fleet, taken, how)


def _check_options(workspace: Workspace, change: Callable[[Editor], None], stanza: Path) -> None:
    """Before anything is asked. Raises UsageError that names them."""
    editor = Editor(read_text(workspace.folder.fleet_toml))
    change(editor)
    parse_edited(editor.text, stanza, {"names": "HOST"})


def _unproved(fleet: Fleet) -> UsageError:
    """Names lie in zones: where there is none, that comes first, and no token helps."""
    if not fleet.dns.zones:
        base = fleet.base_domain
        first = [] if base else ['base_domain = "ZONE" at the top of fleet.toml: servers get names below it']
        return UsageError(
            "servers prove in DNS that the names are theirs, and fleet.toml has no zone yet",
            hint="\n".join([*first, f"sf dns setup {base or 'ZONE'}"]),
        )
    return UsageError("servers need a token to prove that the names are theirs", hint="--token asks for it")


def _check_unwanted(fleet: Fleet, name: str, servers: Sequence[str]) -> None:
    """The next `sf apply` would bring back what the file still wants. Raises UsageError."""
    if wanting := [wish.server for wish in wishes(fleet) if wish.name == name and wish.server in servers]:
        where = "[acme]" if name == OWN else f"{_TABLE}.{name}"
        on = f"`on` of {where}"
        raise UsageError(
            f"fleet.toml still wants it on {', '.join(wanting)}: the next sf apply would make it again",
            hint=f"take {', '.join(wanting)} out of {on} first",
        )
