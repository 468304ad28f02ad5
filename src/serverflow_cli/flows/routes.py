"""`sf route`: host names that lead somewhere. Record, certificate, nginx and firewall follow from one stanza."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from typing import Any

from serverflow_actions import registry

from ..config.edit import Editor
from ..config.load import parse, read_text
from ..config.options import parse_edited
from ..errors import UsageError
from ..model import selector
from ..model.fleet import Fleet
from ..model.result import CommandResult
from ..plan.route_names import astray
from ..plan.wishes import certificate_of, hosts
from . import follow, vault
from .config import How
from .stanza import take_away
from .workspace import Workspace

_TABLE = "routes"
#: Options of `sf route add` whose keys are called otherwise.
_OPTIONS = {"aliases": "--host", "paths": "--path", "login": "--auth-user"}


async def write(
    workspace: Workspace,
    name: str,
    values: Mapping[str, Any],
    password: Callable[[], str] | None,
    is_new: bool,
    how: How,
) -> CommandResult:
    """Make a route, or change its stanza. `password` is asked for the visitors' password. Whoever is asked is told of
    names that lead elsewhere. Raises UsageError.
    """
    present = workspace.fleet.routes.get(name)
    if is_new and present:
        raise UsageError(f"there is a route {name} already", hint=f"sf route edit {name}")
    if not is_new and not present:
        raise UsageError(f"there is no route {name}", hint="sf route list")
    given: dict[str, str] = {}
    stanza, secret = dict(values), f"route_{name.replace('-', '_')}"
    if user := stanza.pop("auth_user", None):
        stanza["login"] = {"user": user, "password": {"secret": secret}}

    def change(editor: Editor) -> None:
        editor.set_entry(_TABLE, name, stanza)

    editor = Editor(read_text(workspace.folder.fleet_toml))
    change(editor)
    told = astray(parse_edited(editor.text, (_TABLE, name), _OPTIONS), name)
    if user and password and (secret not in vault.read(workspace).boxes or not is_new):
        given[secret] = password()

    def without(fleet: Fleet) -> Fleet:
        return fleet.model_copy(update={_TABLE: {key: each for key, each in fleet.routes.items() if key != name}})

    def noted(result: CommandResult) -> CommandResult:
        return replace(result, notes=tuple(dict.fromkeys((*result.notes, *told))))

    noting = replace(how, approve=lambda planned: how.approve(noted(planned)))
    return noted(await follow.made(workspace, change, noting, given, without=without))


async def remove(workspace: Workspace, name: str, how: How) -> CommandResult:
    """Off its servers, then its stanza, its names, and its own certificate once nothing else needs it."""
    route = workspace.fleet.routes.get(name)
    if route is None:
        raise UsageError(f"there is no route {name}", hint="sf route list")
    names = list(selector.resolve(workspace.fleet.servers, route.on))
    action = registry.load("route.remove")

    def take(how: How) -> Awaitable[CommandResult]:
        return take_away(
            workspace,
            action,
            {"name": name},
            names,
            f"route.{name}",
            [(_TABLE, name)],
            plan=how.plan,
            approve=how.approve,
            timeout_s=how.timeout_s or action.timeout,
            lock_wait_s=how.lock_wait_s,
            report=how.report,
            safety=how.safety,
        )

    editor = Editor(read_text(workspace.folder.fleet_toml))
    editor.remove_entry(_TABLE, name)
    taken = {(server, f"route.{name}") for server in names}
    return await follow.removed(workspace, take, parse(editor.text), taken, how)


async def list_routes(workspace: Workspace) -> CommandResult:
    """What fleet.toml asks for."""
    rows = [
        {
            "name": name,
            "on": list(selector.resolve(workspace.fleet.servers, route.on)),
            "hosts": list(hosts(route)),
            "to": next((value for _, value in route.to if value is not None), "") if route.to else "",
            "https": all(
                certificate_of(workspace.fleet, server, name)
                for server in selector.resolve(workspace.fleet.servers, route.on)
            ),
            "maintenance": route.maintenance,
        }
        for name, route in workspace.fleet.routes.items()
    ]
    return CommandResult(workspace.label, data={"routes": rows}, notes=() if rows else ("no routes: sf route add",))
