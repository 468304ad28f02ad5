"""`sf dns setup`: who is to serve a zone."""

from __future__ import annotations

import base64
import secrets as random
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ..config.edit import Editor
from ..errors import ConfigError, UsageError
from ..model.result import CommandResult
from ..plan import name_servers
from ..plan.zones import addresses
from . import vault
from .config import How
from .own_servers import Edit
from .stanza import unless_changed
from .workspace import Workspace
from .zone_stanza import PROVIDERS, ZONES, check_name, elsewhere, is_elsewhere, made, provider_alone

if TYPE_CHECKING:
    from ..model.fleet import Fleet, PowerDns


async def setup(
    workspace: Workspace, zone: str, kind: str, settings: Mapping[str, Any], token: Callable[[], str], how: How
) -> CommandResult:
    """Write the provider and the zone into fleet.toml, and make the zone where there is none yet.

    `token` is asked for Cloudflare's, unless the provider is there already; it is checked before anything is written.
    Secondaries that the provider does not have yet are added to it. A zone that another provider has stays there until
    it is moved: this sets up where to. Raises UsageError when that is there already.
    """
    zone, name = zone.lower().rstrip("."), str(settings.get("name") or kind)
    check_name(zone)
    stanza = _stanza(workspace.fleet, zone, name, kind, settings)
    stays = elsewhere(workspace.fleet, zone, name)
    if stays and not stanza:
        raise is_elsewhere(stays, zone, name)
    if kind == "cloudflare":
        given = await _token(workspace, name, token) if stanza else {}
    else:
        given = _transfer_key(workspace, name) if "transfer_key" in stanza else {}

    def change(editor: Editor) -> None:
        if stanza:
            editor.set_entry(PROVIDERS, name, stanza)
        if not stays:
            editor.set_entry(ZONES, zone, {"provider": name})

    edit = Edit(name, unless_changed(workspace, PROVIDERS, name, change) if stanza else change, given)
    return await (provider_alone if stays else made)(workspace, zone, edit, how)


def _transfer_key(workspace: Workspace, name: str) -> dict[str, str]:
    """A new secret for hmac-sha256, as long as the hash (RFC 8945 section 6); {} where a run that was cut off has left
    one.
    """
    secret = _key_name(name)
    if secret in vault.read(workspace).boxes:
        return {}
    vault.check_may_sign(workspace)
    return {secret: base64.b64encode(random.token_bytes(32)).decode()}


def _key_name(name: str) -> str:
    return f"{name.replace('-', '_')}_transfer_key"


def _stanza(fleet: Fleet, zone: str, name: str, kind: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """The provider's; {} where it is there, and nothing is said that differs. Raises UsageError."""
    present = fleet.dns.providers.get(name)
    if present and present.provider != kind:
        raise UsageError(f"{name} in fleet.toml is {present.provider}", hint="--name for another provider")
    if kind == "cloudflare":
        return {} if present else {"provider": kind, "token": {"secret": _secret_name(name)}}
    on, secondary = settings.get("on"), list(settings.get("secondary") or ())
    if present and not on and not secondary:
        return {}
    if present and present.provider == "powerdns":
        return _more(fleet, zone, name, present, on or present.on, secondary)
    if not on:
        raise UsageError("which server is to have the zones?", hint="--on SERVER")
    _check_others(on, secondary)
    found: dict[str, Any] = {"provider": kind, "on": on, "nameservers": _nameservers(fleet, zone, [on, *secondary])}
    if secondary:
        found["transfer_key"] = {"secret": _key_name(name)}
    return found


def _more(fleet: Fleet, zone: str, name: str, present: PowerDns, on: str, secondary: Sequence[str]) -> dict[str, Any]:
    """The secondaries that a provider does not have yet, beside those that it has: {} for none. Raises UsageError."""
    copies = name_servers.secondaries(present)
    if on != present.on or (copies and not secondary):
        raise UsageError(
            f"{name} is set up already, with name servers that other zones have",
            hint=f"without --on and --secondary, or change dns.providers.{name} in fleet.toml",
        )
    _check_others(on, secondary)
    more = _nameservers(fleet, zone, [each for each in dict.fromkeys(secondary) if each not in copies])
    if not more:
        return {}
    if taken := sorted(more.keys() & present.nameservers.keys()):
        raise UsageError(f"{taken[0]} is the name of {present.nameservers[taken[0]]} already")
    found: dict[str, Any] = {"nameservers": {**present.nameservers, **more}}
    if not present.transfer_key:
        found["transfer_key"] = {"secret": _key_name(name)}
    return found


def _check_others(on: str, secondary: Sequence[str]) -> None:
    if on in secondary:
        raise UsageError(f"{on} has the zones already: a secondary is another server", hint="--secondary SERVER")


def _nameservers(fleet: Fleet, zone: str, servers: Sequence[str]) -> dict[str, str]:
    """Each server by its own name below base_domain, else below the zone."""
    for server in servers:
        if server not in fleet.servers:
            known = f"there is {', '.join(fleet.servers)}" if fleet.servers else "first: sf server add"
            raise UsageError(f"there is no server {server}", hint=known)
        if not addresses(fleet, server):
            raise ConfigError(
                f"nobody knows the address of {server}: its host is a name", hint=f"servers.{server}.addresses"
            )
    return {f"{server}.{fleet.base_domain or zone}": server for server in servers}


async def _token(workspace: Workspace, name: str, token: Callable[[], str]) -> dict[str, str]:
    """The token that is to be sealed, once Cloudflare has taken it. Raises ConfigError, ProviderError."""
    from ..providers.cloudflare import Cloudflare

    secret = _secret_name(name)
    if secret in vault.read(workspace).boxes:
        raise UsageError(f"there is a secret {secret} already", hint=f"sf secret remove {secret}, or --name")
    vault.check_may_sign(workspace)
    value = token().strip()
    if not value:
        raise UsageError("the token is empty")
    found = await Cloudflare(value).check()
    if found.missing:
        raise ConfigError(
            f"the token may not do all that is needed: {', '.join(found.missing)}", code="token",
            hint="https://dash.cloudflare.com/profile/api-tokens, template “Edit zone DNS”",
        )  # fmt: skip
    return {secret: value}


def _secret_name(name: str) -> str:
    return f"{name.replace('-', '_')}_token"
