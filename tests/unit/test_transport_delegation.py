"""What the servers of a zone's parent say of it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import AsyncExitStack
from types import SimpleNamespace
from typing import Any

import dns.asyncresolver
import dns.exception
import dns.name
import dns.rcode
import dns.resolver
import pytest

from serverflow_cli.transport import delegation
from serverflow_cli.transport.delegation import delegations, parents
from serverflow_cli.transport.nameservers import Server

from .test_transport_nameservers import SmallServer

ZONE = "acme.test."
REFERRAL = ["acme.test. 3600 IN NS NS1.acme.test.", "acme.test. 3600 IN NS ns2.acme.test."]


def asked(*servers: SmallServer, monkeypatch: pytest.MonkeyPatch) -> list[delegation.Delegation]:
    async def run() -> list[delegation.Delegation]:
        async with AsyncExitStack() as stack:
            there = [await stack.enter_async_context(server.running()) for server in servers]

            async def found(_zone: str) -> Sequence[Server]:
                return there

            monkeypatch.setattr(delegation, "parents", found)
            return await delegations(ZONE)

    return asyncio.run(run())


def test_a_referral_tells_the_name_servers(monkeypatch: pytest.MonkeyPatch) -> None:
    server = SmallServer([], referral=(REFERRAL, []), authoritative=False)
    (found,) = asked(server, monkeypatch=monkeypatch)
    assert found.nameservers == {"ns1.acme.test.", "ns2.acme.test."} and not found.problem


def test_who_does_not_answer_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    silent, knows = SmallServer([], rcode=dns.rcode.SERVFAIL), SmallServer(REFERRAL)
    first, second = asked(silent, knows, monkeypatch=monkeypatch)
    assert first.problem == "it answers SERVFAIL" and not first.nameservers
    assert len(second.nameservers) == 2


def test_ds_are_compared_in_one_spelling(monkeypatch: pytest.MonkeyPatch) -> None:
    server = SmallServer([*REFERRAL, "acme.test. 600 IN DS 1 13 2 " + "AB " * 32])
    (found,) = asked(server, monkeypatch=monkeypatch)
    assert found.ds == {"1 13 2 " + "ab" * 32} and found.ds_ttl == 600


class Resolver:
    """Of a world where app. is a zone, and lab.acme.app. is not."""

    names: tuple[str, ...] = ("a.nic.app.", "b.nic.app.")
    down = False

    async def resolve(self, name: dns.name.Name, _kind: str, lifetime: float) -> Any:
        if self.down:
            raise dns.exception.Timeout
        if name.to_text() == "lab.acme.app.":
            raise dns.resolver.NXDOMAIN
        if name.to_text() == "acme.app.":
            raise dns.resolver.NoAnswer
        assert name.to_text() == "app."
        return [SimpleNamespace(target=dns.name.from_text(each)) for each in self.names]

    async def resolve_name(self, name: str, lifetime: float) -> Any:
        if name.startswith("b."):
            raise dns.resolver.NoNameservers
        return SimpleNamespace(addresses=lambda: ["192.0.2.1", "2001:db8::1"])


def test_the_parent_is_the_closest_zone_above(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dns.asyncresolver, "Resolver", Resolver)
    found = asyncio.run(parents("x.lab.acme.app."))
    assert found == [("a.nic.app.", "192.0.2.1", 53), ("a.nic.app.", "2001:db8::1", 53)]


def test_without_a_resolver_nobody_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Resolver, "down", True)
    monkeypatch.setattr(dns.asyncresolver, "Resolver", Resolver)
    assert asyncio.run(parents(ZONE)) == []
