"""A held connection, against an SSH server on loopback: one for many requests, and another once it was hung up."""

from __future__ import annotations

import asyncio
from typing import Any

import asyncssh
import pytest

from serverflow_cli.errors import Unreachable
from serverflow_cli.transport.login import LoginKeys
from serverflow_cli.transport.ssh import Connector, Endpoint


async def _handle(process: Any) -> None:
    process.exit(0)


class _Server:
    """Counts who connects."""

    def __init__(self) -> None:
        self.connections = 0
        self.key = asyncssh.generate_private_key("ssh-ed25519")
        self.login = asyncssh.generate_private_key("ssh-ed25519")

    async def listen(self) -> tuple[Any, Endpoint, LoginKeys]:
        counter = self

        class Counting(asyncssh.SSHServer):
            def connection_made(self, conn: Any) -> None:
                counter.connections += 1

        listener = await asyncssh.listen(
            "127.0.0.1",
            0,
            server_host_keys=[self.key],
            server_factory=Counting,
            authorized_client_keys=asyncssh.import_authorized_keys(self.login.export_public_key().decode()),
            process_factory=_handle,
        )
        endpoint = Endpoint(
            "web1", "127.0.0.1", listener.get_port(), "serverflow", (self.key.export_public_key().decode().strip(),)
        )
        return listener, endpoint, LoginKeys((self.login.export_private_key().decode(),))


async def _request(connector: Connector, endpoint: Endpoint) -> None:
    async with connector.hold(endpoint), connector.connect(endpoint) as connection:
        await connector.run(connection, endpoint, "true")


def test_a_held_connection_is_replaced_once_it_was_hung_up() -> None:
    async def work() -> None:
        server = _Server()
        listener, endpoint, keys = await server.listen()
        async with Connector(keys) as connector:
            async with connector.hold(endpoint):
                await _request(connector, endpoint)
                await _request(connector, endpoint)
                assert server.connections == 1
                await connector.hang_up(endpoint)
                await _request(connector, endpoint)
                await _request(connector, endpoint)
                assert server.connections == 2
            await connector.hang_up(endpoint)
            await _request(connector, endpoint)
            assert server.connections == 3
        listener.close()

    asyncio.run(work())


def test_where_no_new_one_can_be_made_the_next_request_tries_again() -> None:
    async def work() -> None:
        server = _Server()
        listener, endpoint, keys = await server.listen()
        async with Connector(keys) as connector, connector.hold(endpoint):
            listener.close()
            await listener.wait_closed()
            await connector.hang_up(endpoint)
            for _ in range(2):
                with pytest.raises(Unreachable):
                    await _request(connector, endpoint)

    asyncio.run(work())


def test_requests_at_once_share_one_that_ends_with_the_last() -> None:
    """As when several zones of one name server are asked for."""

    async def work() -> None:
        server = _Server()
        listener, endpoint, keys = await server.listen()
        first_is_over = asyncio.Event()

        async def longer(connector: Connector) -> None:
            async with connector.hold(endpoint):
                await first_is_over.wait()
                await _request(connector, endpoint)

        async def shorter(connector: Connector) -> None:
            await _request(connector, endpoint)
            first_is_over.set()

        async with Connector(keys) as connector:
            await asyncio.gather(shorter(connector), longer(connector), _request(connector, endpoint))
            assert server.connections == 1
            await _request(connector, endpoint)
            assert server.connections == 2
        listener.close()

    asyncio.run(work())
