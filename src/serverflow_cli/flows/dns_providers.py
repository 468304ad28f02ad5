"""The providers of zones that fleet.toml names, each opened once for a command."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import AsyncExitStack
from functools import partial
from typing import TYPE_CHECKING, Any, Self

from serverflow_actions import registry

from ..model.ids import new_ulid
from ..model.result import Report, Request
from . import sealing
from .workspace import Workspace

if TYPE_CHECKING:
    from ..model.fleet import Fleet, PowerDns
    from ..providers.dns import DnsProvider
    from ..rpc.call import Caller

#: Of our own name servers, at once: sshd lets one connection have ten sessions (MaxSessions, sshd_config(5)).
_AT_ONCE = 5


class Providers:
    """Opened with a workspace. `fleet` is what to go by when fleet.toml is about to be written, `given` are values of
    secrets that secrets.toml does not have yet. Zones that are added at our own servers are signed if `dnssec`.
    """

    def __init__(
        self,
        workspace: Workspace,
        report: Report,
        fleet: Fleet | None = None,
        given: Mapping[str, str] | None = None,
        *,
        dnssec: bool = False,
    ) -> None:
        self._workspace, self._report = workspace, report
        self._fleet, self._given = fleet or workspace.fleet, given or {}
        self._dnssec = dnssec
        self._open: dict[str, DnsProvider] = {}
        self._stack = AsyncExitStack()
        self._caller: Caller | None = None
        self._turns = asyncio.Semaphore(_AT_ONCE)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    async def of(self, zone: str) -> DnsProvider:
        """A zone's. Raises ConfigError and TrustError for a token that cannot be opened."""
        return await self.named(self._fleet.dns.zones[zone].provider)

    async def named(self, name: str) -> DnsProvider:
        """The provider of that name in fleet.toml."""
        if name not in self._open:
            self._open[name] = self._made(name)
        return self._open[name]

    def _made(self, name: str) -> DnsProvider:
        settings = self._fleet.dns.providers[name]
        if settings.provider == "cloudflare":
            from ..providers.cloudflare import Cloudflare

            secret = settings.token.secret
            return Cloudflare(self._given.get(secret) or sealing.open_secret(self._workspace, secret))
        return self._powerdns(name, settings)

    def _powerdns(self, name: str, settings: PowerDns) -> DnsProvider:
        from serverflow_actions.kit.rrset import fqdn

        from ..plan import name_servers
        from ..plan.zones import addresses
        from ..providers.powerdns import NewZones
        from ..providers.powerdns import PowerDns as Provider

        servers = [
            (fqdn(each), address, 53)
            for each, server in settings.nameservers.items()
            for address in addresses(self._fleet, server)
        ]
        copies = name_servers.secondaries(settings)
        told = tuple(address for server in copies for address in addresses(self._fleet, server))
        shared = (name_servers.transfer_key(name), told, name_servers.catalog(name)) if copies else ("", (), "")
        return Provider(
            partial(self._ask, settings.on, True),
            partial(self._ask, settings.on, False),
            NewZones(tuple(servers), *shared, self._dnssec),
        )

    async def _ask(
        self, server: str, read_only: bool, action: str, params: Mapping[str, Any], blobs: tuple[bytes, ...]
    ) -> Mapping[str, Any]:
        """One signed action on the primary."""
        if self._caller is None:
            self._caller = await self._stack.enter_async_context(self._workspace.caller())
        request = Request(action, params, read_only=read_only, blobs=blobs)
        version = registry.load(action).version
        link = self._workspace.link(server)
        async with self._turns:
            return (await self._caller.call(link, request, new_ulid(), version, self._report)).data
