"""`sf notify`: where alerts go. A channel is a stanza of fleet.toml; what it keeps secret is sealed beside the file."""

from __future__ import annotations

import base64
import secrets as random
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from serverflow_actions import registry
from serverflow_actions.kit import Refused
from serverflow_actions.kit.spec import BadParams
from serverflow_actions.kit.spec import parse as parse_params
from serverflow_actions.notify import _shared as channels

from ..config import secrets
from ..config.edit import Editor, edit
from ..config.load import parse, read_text
from ..config.references import references
from ..errors import ActionFailed, SfError, UsageError
from ..model.ids import new_ulid
from ..model.result import CommandResult, Reply, Report, Request, ServerResult
from ..plan.desired import CHANNELS, resources
from . import sealing, vault
from .actions import run_action
from .config import How
from .stanza import edited, take_away, unless_changed
from .workspace import Workspace

if TYPE_CHECKING:
    from serverflow_actions.kit.spec import Param

    from ..model.fleet import Channel, Fleet
    from ..plan.resource import Resource
    from ..rpc.hello import Link


async def add(
    workspace: Workspace,
    name: str,
    settings: Mapping[str, Any],
    wanted: Sequence[str],
    values: Callable[[], Mapping[str, str]],
    how: How,
) -> CommandResult:
    """Write the stanza of a new channel, seal its `wanted` secrets and bring both to the servers that need them.

    `values` is asked for the secrets once all else is well; a webhook that comes without its `secret` gets one, which
    the result shows. Nothing is written before the plan was approved. Raises UsageError, ConfigError, TrustError.
    """
    if name in workspace.fleet.notify.channels:
        raise UsageError(f"there is a channel {name} already", hint=f"sf notify show {name}")
    _check(name, settings)
    sealed_as = {param: _secret_name(name, param) for param in wanted}
    stanza = {**settings, **{param: {"secret": secret} for param, secret in sealed_as.items()}}
    change = unless_changed(workspace, CHANNELS, name, lambda editor: editor.set_entry(CHANNELS, name, stanza))
    editor = Editor(read_text(workspace.folder.fleet_toml))
    change(editor)
    needed = _resources(parse(editor.text), name)
    if wanted:
        _check_free(workspace, sealed_as.values())
    found = dict(values())
    made = ""
    if settings["provider"] == "webhook" and "secret" not in found:
        made = found["secret"] = new_signing_secret()
    _check(name, settings, found)
    given = {sealed_as[param]: value for param, value in found.items()}
    try:
        if needed:
            result = await edited(
                workspace,
                change,
                lambda key: key == _key(name),
                "all",
                how.plan,
                how.approve,
                how.timeout_s,
                how.lock_wait_s,
                how.report,
                how.safety,
                given,
            )
        else:
            result = _write(workspace, name, change, given, how.plan)
    finally:
        workspace.refresh()
        kept = _is_kept(workspace, name)
        if not kept:
            _forget(workspace, given)
    if how.plan or not kept:
        return result
    notes = tuple(f"sealed into secrets.toml: sf secret show {secret}" for secret in given)
    return replace(result, data={"secret": made} if made else {}, notes=(*result.notes, *notes))


async def remove(workspace: Workspace, name: str, how: How, selector: str | None = None) -> CommandResult:
    """Take a channel off all servers that have it, then its stanza and the secrets that `add` sealed for it. With a
    selector only off those servers, from which no route sends there any more.

    Raises UsageError for one that routes still send to: without it they might come to mean something else.
    """
    if selector is not None:
        return await _remove_from(workspace, name, selector, how)
    stanza = workspace.fleet.notify.channels.get(name)
    routes = [f"notify.routes[{at}]" for at, route in enumerate(workspace.fleet.notify.routes) if name in route.to]
    if routes:
        raise UsageError(f"{', '.join(routes)} in fleet.toml sends to {name}", hint="take it out of there first")
    names, notes = await _where(workspace, name, how.report)
    if stanza is None and not names:
        raise _no_channel(workspace.fleet, name)
    if names:
        done = await _take_off(workspace, name, names, [(CHANNELS, name)] if stanza else [], how)
    else:
        done = CommandResult(workspace.label, notes=(f"no server has it: only {CHANNELS}.{name} goes",))
        if not how.plan:
            if not how.approve(done):
                raise SfError("nothing was done", code="declined")
            with edit(workspace.folder) as editor:
                editor.remove_entry(CHANNELS, name)
    workspace.refresh()
    if stanza and name not in workspace.fleet.notify.channels:
        notes += _forget_those_of(workspace, name, stanza)
    return replace(done, notes=(*done.notes, *notes))


async def _remove_from(workspace: Workspace, name: str, selector: str, how: How) -> CommandResult:
    chosen = workspace.select(selector)
    if needed := [resource.server for resource in _resources(workspace.fleet, name) if resource.server in chosen]:
        hint = "" if workspace.fleet.notify.routes else "without any routes all failures of all servers go there"
        raise UsageError(f"{', '.join(needed)}: by fleet.toml this is to be sent to {name}", hint=hint)
    having, notes = await _where(workspace, name, how.report)
    names = [server for server in having if server in chosen]
    if not names:
        return CommandResult(workspace.label, notes=(*notes, f"none of these servers has {name}"))
    done = await _take_off(workspace, name, names, [], how)
    return replace(done, notes=(*done.notes, *notes))


async def _take_off(
    workspace: Workspace, name: str, names: list[str], stanzas: Sequence[tuple[str, str]], how: How
) -> CommandResult:
    action = registry.load("notify.remove")
    return await take_away(
        workspace,
        action,
        {"name": name},
        names,
        _key(name),
        stanzas,
        plan=how.plan,
        approve=how.approve,
        timeout_s=how.timeout_s or action.timeout,
        lock_wait_s=how.lock_wait_s,
        report=how.report,
        safety=how.safety,
    )


async def test(
    workspace: Workspace, name: str, *, selector: str, timeout_s: int | None, report: Report
) -> CommandResult:
    """Send through a channel from each server. What the other side did not take is that server's failure."""
    tried = await run_action(
        workspace,
        "notify.test",
        selector,
        {"name": name},
        secrets={},
        plan=False,
        approve=lambda _: True,
        timeout_s=timeout_s,
        lock_wait_s=0,
        report=report,
    )
    return replace(tried, servers=tuple(_as_failure(name, server) for server in tried.servers))


async def list_channels(workspace: Workspace) -> CommandResult:
    """The channels of fleet.toml, and the servers that are to have them."""
    rows = [
        {
            "channel": name,
            "provider": channel.provider,
            "servers": [resource.server for resource in _resources(workspace.fleet, name)],
            "events": _events(workspace.fleet, name),
        }
        for name, channel in workspace.fleet.notify.channels.items()
    ]
    return CommandResult(workspace.label, data={"channels": rows})


async def show(workspace: Workspace, name: str) -> CommandResult:
    """One channel: its settings, the names of its secrets, and what goes to it from which server.

    Raises UsageError when fleet.toml has none of that name.
    """
    from ..model.fleet import Secret

    channel = workspace.fleet.notify.channels.get(name)
    if channel is None:
        raise _no_channel(workspace.fleet, name)
    settings = {
        key: list(value) if isinstance(value, tuple) else value
        for key, value in channel
        if value is not None and not isinstance(value, Secret)
    }
    kept = {key: value.secret for key, value in channel if isinstance(value, Secret)}
    servers = [{"server": r.server, "events": r.params["rules"]} for r in _resources(workspace.fleet, name)]
    data = {"channel": name, **settings, "secrets": kept, "servers": servers}
    return CommandResult(workspace.label, data=data)


def _as_failure(name: str, server: ServerResult) -> ServerResult:
    if not server.reply or server.error or server.reply.data.get("sent", True):
        return server
    error = ActionFailed(f"{name} was not sent to: {server.reply.data.get('said')}", server=server.name)
    return ServerResult(server.name, replace(server.reply, outcome="failed"), error)


def new_signing_secret() -> str:
    """What a webhook's messages are signed with, as the Standard Webhooks specification writes it."""
    return "whsec_" + base64.b64encode(random.token_bytes(32)).decode()


def _key(name: str) -> str:
    return f"notify.{name}"


def _secret_name(name: str, param: str) -> str:
    return f"notify_{name}_{param}"


def _resources(fleet: Fleet, name: str) -> list[Resource]:
    """The channel on each server that is to have it."""
    return [found for found in resources(fleet) if found.key == _key(name)]


def _events(fleet: Fleet, name: str) -> list[str]:
    """What goes to a channel from any server."""
    return list(dict.fromkeys(rule for found in _resources(fleet, name) for rule in found.params["rules"]))


def _check_free(workspace: Workspace, names: Collection[str]) -> None:
    """Before anybody is asked for a value: that we may seal it, and that it takes the place of none."""
    vault.check_may_sign(workspace)
    boxes = vault.read(workspace).boxes
    for name in names:
        if name in boxes:
            raise UsageError(f"there is a secret {name} already", hint=f"sf secret remove {name}, or another channel")


def _check(name: str, settings: Mapping[str, Any], found: Mapping[str, str] | None = None) -> None:
    """By the doors that the server uses too, secrets once they are there. Raises UsageError, which shows none."""
    params = registry.load("notify.set").params
    given = {"name": name, "server": "web1", **settings}
    try:
        parse_params(params, given)
        if found is not None:
            _check_secrets(params, found)
            channels.settings(parse_params(params, {**given, **found}))
    except (BadParams, Refused) as error:
        raise UsageError(str(error)) from None


def _check_secrets(params: Sequence[Param], found: Mapping[str, str]) -> None:
    for param in params:
        if param.name in found:
            secrets.check_value(param.name, found[param.name])
            try:
                parse_params([param], {param.name: found[param.name]})
            except BadParams:
                raise UsageError(f"{param.name} is not one line of printable text without a leading dash") from None


def _is_kept(workspace: Workspace, name: str) -> bool:
    """Whether the file has the channel by now: what no server took, it has not. Where it cannot be read, it may."""
    try:
        return name in workspace.fleet.notify.channels
    except SfError:
        return True


def _write(
    workspace: Workspace, name: str, change: Callable[[Editor], None], given: Mapping[str, str], plan: bool
) -> CommandResult:
    """The stanza alone: no server needs it yet."""
    if not plan:
        if given:
            sealing.store(workspace, given)
        with edit(workspace.folder) as editor:
            change(editor)
        workspace.refresh()
    why = f"no route sends anything to {name}" if workspace.fleet.servers else "the fleet has no servers"
    return CommandResult(workspace.label, notes=(f"{why} yet: the channel is in fleet.toml only",))


def _forget(workspace: Workspace, names: Collection[str]) -> None:
    """Take secrets out again, if they are there. Left behind they do no harm."""
    with suppress(SfError):
        if not vault.read(workspace).boxes.keys().isdisjoint(names):
            vault.change(workspace, lambda boxes: {name: held for name, held in boxes.items() if name not in names})


def _forget_those_of(workspace: Workspace, name: str, stanza: Channel) -> tuple[str, ...]:
    """Take out what a channel that is gone had for itself. Returns notes on what stays."""
    used = references(workspace.fleet)
    secrets_of = {secret: places[0] for secret, places in references(stanza).items() if secret not in used}
    _forget(workspace, [secret for secret, param in secrets_of.items() if secret == _secret_name(name, param)])
    with suppress(SfError):
        left = [secret for secret in secrets_of if secret in vault.read(workspace).boxes]
        return tuple(f"nothing refers to secret {secret} any more: sf secret remove {secret}" for secret in left)
    return ()


async def _where(workspace: Workspace, name: str, report: Report) -> tuple[list[str], tuple[str, ...]]:
    """The servers that are to have a channel, those that had it before the file changed, and notes on those that could
    not be asked. What broke in the middle is in no list, so the first are taken without asking.
    """
    version = registry.load("applied.list").version
    having = {resource.server for resource in _resources(workspace.fleet, name)} & workspace.ids.keys()

    async def look(link: Link) -> Reply:
        request = Request("applied.list", read_only=True, timeout_s=20)
        return await caller.call(link, request, new_ulid(), version, report)

    async with workspace.caller() as caller:
        looked = await workspace.on_all(workspace.ids, look, report)
    silent = [server.name for server in looked if server.error and server.name not in having]
    having |= {server.name for server in looked if server.reply and _key(name) in server.reply.data["applied"]}
    notes = (f"could not be asked whether they have it: {', '.join(silent)}",) if silent else ()
    return [server for server in workspace.servers if server in having], notes


def _no_channel(fleet: Fleet, name: str) -> UsageError:
    known = ", ".join(fleet.notify.channels)
    return UsageError(f"there is no channel {name[:60]!a}", hint=f"there is {known}" if known else "sf notify add")
