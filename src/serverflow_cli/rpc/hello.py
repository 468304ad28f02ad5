"""The server's half of the handshake: HELLO, verified against the pins before anything is sent."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from ..errors import TrustError, Unreachable
from ..transport.ssh import Endpoint
from ..trust import sshsig


@dataclass(frozen=True)
class Link:
    """A server as the pins know it: where it is, its id, and the raw identity key that signs for it."""

    endpoint: Endpoint
    server_id: str
    identity: bytes

    @property
    def name(self) -> str:
        return self.endpoint.name


@dataclass(frozen=True)
class Hello:
    """What a server says of itself at the start of a session. `clock` in ms since 1970."""

    challenge: str
    trust_version: int
    bundle_version: int
    boot: str
    clock: int
    last_receipt: str
    pending: str


def verified(payload: bytes, link: Link, nonce: str) -> Hello:
    """Raises TrustError when it is not this server that speaks, or not to us."""
    body = checked_body(payload, sshsig.HELLO, link)
    if body.get("nonce") != nonce or body.get("typ") != "hello":
        raise TrustError("the server answered another connection", server=link.name, code="wrong-nonce")
    if body.get("server_id") != link.server_id:
        raise TrustError("this is another server than the pinned one", server=link.name, code="wrong-server")
    try:
        return Hello(
            str(body["challenge"]),
            int(body["trust_version"]),
            int(body["bundle_version"]),
            str(body["boot"]),
            int(body["clock"]),
            str(body["last_receipt"]),
            str(body["pending"]),
        )
    except (KeyError, ValueError, TypeError):
        raise Unreachable(
            "the server speaks another version of the protocol", server=link.name, hint="sf server update"
        ) from None


def checked_body(payload: bytes, namespace: str, link: Link) -> dict[str, Any]:
    """The body of a `signed` structure with the one signature of the pinned identity key. Raises TrustError."""
    try:
        blobs, body = sshsig.unpack_signed(payload)
        signers = {sshsig.verify(blob, namespace, body) for blob in blobs}
    except TrustError as error:
        raise TrustError(
            f"what the server signed is not valid: {error.message}", server=link.name, code="bad-signature"
        ) from None
    if signers != {link.identity}:
        raise TrustError(
            "the server's identity key is not the pinned one",
            server=link.name,
            code="identity-changed",
            hint=f"if the server was reinstalled: sf server remove {link.name} --forget, then sf server add",
        )
    value = json.loads(body)
    if not isinstance(value, dict):
        raise TrustError("what the server signed is not valid", server=link.name, code="bad-signature")
    return value
