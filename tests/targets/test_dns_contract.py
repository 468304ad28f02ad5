"""PowerDNS on a real server, through signed actions, keeps every promise of providers/dns.py."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import pytest

from serverflow_actions import registry
from serverflow_cli.config.environment import Settings
from serverflow_cli.errors import Unreachable
from serverflow_cli.flows.workspace import open_workspace
from serverflow_cli.model.ids import new_ulid
from serverflow_cli.model.result import Request
from serverflow_cli.model.zone import Change
from serverflow_cli.providers.dns import DnsProvider
from serverflow_cli.providers.errors import ProviderFailed
from serverflow_cli.providers.powerdns import NewZones, PowerDns

from ..contract.dns import DnsContract, Seam
from .areas import run
from .operator import Operator, new_operator
from .target import Fleet, Target

_ZONE = "contract.test."


@pytest.fixture(scope="module")
def primary(fleet: Fleet, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Operator, Target]]:
    target = fleet.start_fresh("debian12")
    operator = new_operator(tmp_path_factory.mktemp("contract"))
    operator.add("ns1", target)
    run(operator, "action", "run", "dns.server", "role=primary", "--yes", on="ns1")
    yield operator, target
    fleet.remove(target)


@pytest.fixture
def seam(primary: tuple[Operator, Target], monkeypatch: pytest.MonkeyPatch) -> Seam:
    operator, target = primary
    monkeypatch.setenv("HOME", str(operator.home))
    for name in ("XDG_DATA_HOME", "XDG_STATE_HOME", "XDG_CONFIG_HOME"):
        monkeypatch.delenv(name, raising=False)

    @asynccontextmanager
    async def opened() -> AsyncIterator[DnsProvider]:
        workspace = await open_workspace(Settings(fleet=str(operator.fleet)))
        async with workspace.caller() as caller:

            async def ask(action: str, params: Mapping[str, Any], blobs: tuple[bytes, ...]) -> Mapping[str, Any]:
                known = registry.load(action)
                request = Request(action, params, blobs=blobs, read_only=known.kind == "read", timeout_s=known.timeout)
                reply = await caller.call(workspace.link("ns1"), request, new_ulid(), known.version, lambda _: None)
                return reply.data

            yield PowerDns(ask, ask, NewZones((("ns1.contract.test.", target.ip, 53),)))

    return Seam(opened, _ZONE)


class TestContract(DnsContract):
    """The suite."""


def test_thousands_at_once_and_page_by_page(seam: Seam) -> None:
    """More than a command holds go as a blob, and more than an answer holds comes back in pages."""

    async def story(dns: DnsProvider) -> None:
        wanted = [seam.served(f"h{number}", "TXT", [f"{'k' * 200}{number}"]) for number in range(1500)]
        await dns.apply(_ZONE, seam.make(*wanted), (await dns.fetch(_ZONE)).revision)
        state = await dns.fetch(_ZONE)
        assert set(wanted) <= set(state.rrsets) and len(state.rrsets) == len(wanted) + 1
        more = [seam.served(f"i{number}", "TXT", ["k" * 200]) for number in range(2500)]
        with pytest.raises(ProviderFailed, match="at once"):
            await dns.apply(_ZONE, seam.make(*more), state.revision)
        await dns.apply(_ZONE, seam.make(*more[:1500]), state.revision)
        assert len((await dns.fetch(_ZONE)).rrsets) == 3001

    seam.play(story)


def test_a_server_that_is_stopped_is_the_providers_failure(primary: tuple[Operator, Target], seam: Seam) -> None:
    _, target = primary

    async def story(dns: DnsProvider) -> None:
        before = await dns.fetch(_ZONE)
        target.run("systemctl", "stop", "pdns")
        try:
            change = Change(None, seam.served("www", "A", ["192.0.2.1"]))
            with pytest.raises(ProviderFailed, match="does not run"):
                await dns.apply(_ZONE, [change], before.revision)
        finally:
            target.run("systemctl", "start", "pdns")
        assert await dns.fetch(_ZONE) == before

    seam.play(story)


def test_a_server_that_cannot_be_reached_is_not(primary: tuple[Operator, Target], seam: Seam) -> None:
    _, target = primary

    async def story() -> None:
        async with seam.open() as dns:
            target.run("systemctl", "stop", "ssh")
            try:
                with pytest.raises(Unreachable):
                    await dns.zones()
            finally:
                target.run("systemctl", "start", "ssh")

    asyncio.run(story())
