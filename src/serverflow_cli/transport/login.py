"""The keys that open the forced-command login: private keys in memory, and stand-ins for those in an ssh-agent."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

from ..errors import TrustError


@dataclass(frozen=True)
class LoginKeys:
    """What we log in with: `private` as OpenSSH's text, and public lines of keys that the agent at a socket holds.

    No other key of that agent is ever offered: a server counts each (MaxAuthTries), and sees whose they are.
    """

    private: tuple[str, ...] = field(default=(), repr=False)
    in_agent: tuple[str, ...] = ()
    agent: str = ""


class Login:
    """The same for asyncssh, once and for all connections. `declined`: the agent was asked to sign and did not."""

    def __init__(self, keys: LoginKeys) -> None:
        self.declined = False
        self._keys = keys
        self._pairs: list[Any] | None = None
        self._loading = asyncio.Lock()
        self._agent: Any = None

    async def pairs(self, asyncssh: ModuleType) -> list[Any]:
        """What asyncssh takes as `client_keys`. Raises TrustError when the agent has lost a key since we looked."""
        async with self._loading:  # all servers at once want them
            if self._pairs is None:
                private = [asyncssh.import_private_key(text) for text in self._keys.private]
                self._pairs = private + (await self._from_agent(asyncssh) if self._keys.in_agent else [])
            return self._pairs

    async def close(self) -> None:
        """End the talk with the agent."""
        if self._agent:
            self._agent.close()
            await self._agent.wait_closed()

    async def _from_agent(self, asyncssh: ModuleType) -> list[Any]:
        wanted = [asyncssh.import_public_key(line).public_data for line in self._keys.in_agent]
        self._agent = self._client()
        try:
            found = await self._agent.get_keys(wanted)
        except (ValueError, OSError) as error:
            raise TrustError(f"ssh-agent does not answer: {error}", code="no-agent", hint="ssh-add -l") from None
        if len(found) < len(wanted):
            raise TrustError("ssh-agent no longer shows our login key", code="not-in-agent", hint="ssh-add -l")
        return list(found)

    def _client(self) -> Any:
        """An agent that says no looks to asyncssh like a server that does; here it is kept apart."""
        import asyncssh

        login = self

        class Client(asyncssh.SSHAgentClient):
            async def sign(self, key_blob: bytes, data: bytes, flags: int = 0) -> bytes:
                try:
                    return await super().sign(key_blob, data, flags)
                except ValueError:
                    login.declined = True
                    raise

        return Client(self._keys.agent)


def declined(server: str) -> TrustError:
    """The agent is locked, or a person said no."""
    return TrustError(
        "ssh-agent declined to sign with our login key",
        server=server,
        code="agent-declined",
        hint="is it locked (ssh-add -X unlocks), or was its question not answered with yes?",
    )
