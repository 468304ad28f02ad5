"""Many zones of one name server are asked for at once, by fewer sessions than sshd lets one connection have."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any, cast

from serverflow_cli.config.load import parse
from serverflow_cli.flows.dns_providers import Providers
from serverflow_cli.flows.workspace import Workspace
from serverflow_cli.model.result import Reply

_FLEET = parse("""
schema = 1
[servers.db1]
host = "203.0.113.8"
[dns.providers.own]
provider = "powerdns"
on = "db1"
nameservers = { "ns1.acme.app" = "db1" }
""")


class _Caller:
    """Counts who asks at once."""

    def __init__(self) -> None:
        self.now = self.most = 0

    async def call(self, *_: Any) -> Reply:
        self.now += 1
        self.most = max(self.most, self.now)
        await asyncio.sleep(0)
        self.now -= 1
        return Reply("", "done", data={"zones": []})


def test_few_sessions_at_once() -> None:
    caller = _Caller()

    @asynccontextmanager
    async def opened() -> AsyncIterator[_Caller]:
        yield caller

    workspace = cast(Workspace, SimpleNamespace(fleet=_FLEET, caller=opened, link=lambda name: name))

    async def work() -> None:
        async with Providers(workspace, lambda _: None) as providers:
            own = await providers.named("own")
            await asyncio.gather(*(own.zones() for _ in range(30)))

    asyncio.run(work())
    assert 1 < caller.most < 10
