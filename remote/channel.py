"""The SSH channel as two descriptors: frames in, frames out (docs/protocol.md, Framing)."""

from __future__ import annotations

import json
import os
import select
import time
from typing import Any

import verify

READ_DEADLINE_S = 10
PROGRESS_LIMIT = 4096
#: What is announced must come at this pace at least; a connection that trickles is not waited for.
_UPLOAD_GRACE_S = 60
_UPLOAD_BYTES_A_SECOND = 64 << 10


class Gone(Exception):
    """The client closed the connection."""


class Channel:
    """What arrives is bytes until somebody has verified it."""

    def read(self, size: int, deadline: float) -> bytes:
        """Exactly `size` bytes before the deadline (monotonic seconds). Raises Refused or Gone."""
        parts: list[bytes] = []
        while size:
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([0], [], [], left)[0]:
                raise verify.Refused("the message did not arrive in time")
            data = os.read(0, min(size, 1 << 20))
            if not data:
                raise Gone
            parts.append(data)
            size -= len(data)
        return b"".join(parts)

    def read_frame(self, limit: int, deadline: float, optional: bool = False) -> bytes:
        """A length and as many bytes; an `optional` frame may be empty. Raises Refused or Gone."""
        length = int.from_bytes(self.read(4, deadline), "big")
        if optional and not length:
            return b""
        verify.check_frame_length(length, limit)
        return self.read(length, deadline)

    def send(self, kind: bytes, payload: bytes) -> None:
        data = memoryview(kind + len(payload).to_bytes(4, "big") + payload)
        while data:
            data = data[os.write(1, data) :]

    def tell(self, event: dict[str, Any]) -> None:
        """Progress for people. Raises BrokenPipeError when nobody listens any more."""
        self.send(b"P", json.dumps(event).encode()[:PROGRESS_LIMIT])


def upload_deadline(size: int) -> float:
    """When so many bytes must all have arrived, in monotonic seconds."""
    return time.monotonic() + _UPLOAD_GRACE_S + size / _UPLOAD_BYTES_A_SECOND
