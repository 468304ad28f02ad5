"""The byte stream of docs/protocol.md: what the server sends in frames, what the client writes with a length before
it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from ..errors import Unreachable

#: The largest frame that a server has reason to send.
LIMIT = 4 << 20


class ConnectionLost(Unreachable):
    """The server went in the middle."""


class FrameReader:
    """Reads kind and payload of the server's frames. `read_exactly` comes from the channel."""

    def __init__(self, read_exactly: Callable[[int], Awaitable[bytes]]) -> None:
        self._read = read_exactly

    async def next(self, timeout: float | None = None) -> tuple[bytes, bytes]:
        """The next frame. Raises ConnectionLost, or TimeoutError after `timeout` seconds of silence."""
        try:
            async with asyncio.timeout(timeout):
                head = await self._read(5)
                length = int.from_bytes(head[1:5], "big")
                if length > LIMIT:
                    raise ConnectionLost("the server sends something that is not our protocol")
                return head[:1], await self._read(length) if length else b""
        except asyncio.IncompleteReadError:
            raise ConnectionLost("the connection ended in the middle") from None


def framed(payload: bytes) -> bytes:
    """The payload with its length before it."""
    return len(payload).to_bytes(4, "big") + payload
