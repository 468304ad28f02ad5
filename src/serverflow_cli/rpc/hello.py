"""The server's half of the handshake: HELLO, verified against the pins before anything is sent."""

from __future__ import annotations

from dataclasses import dataclass, fields

from ..errors import TrustError
from ..transport.ssh import Endpoint
from ..trust import sshsig
from . import answers


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
    body = answers.hello(signed_body(payload, sshsig.HELLO, link), link.name)
    if body["nonce"] != nonce:
        raise TrustError("the server answered another connection", server=link.name, code="wrong-nonce")
    if body["server_id"] != link.server_id:
        raise TrustError("this is another server than the pinned one", server=link.name, code="wrong-server")
    return Hello(**{field.name: body[field.name] for field in fields(Hello)})


def signed_body(payload: bytes, namespace: str, link: Link) -> bytes:
    """The body of a `signed` structure with the one signature of the pinned identity key. Raises TrustError."""
    try:
        blobs, body = sshsig.unpack_signed(payload)
        signers = {sshsig.verify(blob, namespace, body) for blob in blobs}
    except TrustError as error:
        raise TrustError(
            f"what the server signed is not valid: {error.message}", server=link.name, code="bad-signature"
        ) from None
    if len(blobs) != 1 or signers != {link.identity}:
        raise TrustError(
            "the server's identity key is not the pinned one",
            server=link.name,
            code="identity-changed",
            hint=f"if the server was reinstalled: sf server remove {link.name} --forget, then sf server add",
        )
    return body
