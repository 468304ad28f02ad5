"""The server's half of the handshake: HELLO, verified against the pins before anything is sent."""

from __future__ import annotations

from dataclasses import dataclass, fields

from ..config.pins import Pin
from ..errors import TrustError
from ..transport.ssh import Endpoint
from ..trust import sshsig
from ..trust.keys import parse_public
from . import answers


@dataclass(frozen=True)
class Link:
    """A server as the pins know it: where it is, its id, and the raw identity keys that sign for it.

    `also` is the next identity key while it is rotated; `former` are the keys before, which count for receipts that the
    server has kept and for nothing that it says now.
    """

    endpoint: Endpoint
    server_id: str
    identity: bytes
    also: bytes = b""
    former: tuple[bytes, ...] = ()

    @classmethod
    def of(cls, endpoint: Endpoint, pin: Pin) -> Link:
        """Raises ConfigError for a damaged pin."""
        also = parse_public(pin.next_identity) if pin.next_identity else b""
        return cls(endpoint, pin.server_id, parse_public(pin.identity), also, tuple(map(parse_public, pin.former)))

    @property
    def name(self) -> str:
        return self.endpoint.name


@dataclass(frozen=True)
class Hello:
    """What a server says of itself at the start of a session. `clock` in ms since 1970; `signer` is the identity key
    that it has now.
    """

    challenge: str
    trust_version: int
    trust_sha256: str
    bundle_version: int
    boot: str
    clock: int
    last_receipt: str
    pending: str
    signer: bytes


def verified(payload: bytes, link: Link, nonce: str) -> Hello:
    """Raises TrustError when it is not this server that speaks, or not to us."""
    signer, text = _opened(payload, sshsig.HELLO, link)
    body = answers.hello(text, link.name) | {"signer": signer}
    if body["nonce"] != nonce:
        raise TrustError("the server answered another connection", server=link.name, code="wrong-nonce")
    if body["server_id"] != link.server_id:
        raise TrustError("this is another server than the pinned one", server=link.name, code="wrong-server")
    return Hello(**{field.name: body[field.name] for field in fields(Hello)})


def signed_body(payload: bytes, namespace: str, link: Link, *, kept: bool = False) -> bytes:
    """The body of a `signed` structure with the one signature of a pinned identity key. `kept` is for receipts of the
    past: keys of the past may have signed those. Raises TrustError.
    """
    return _opened(payload, namespace, link, link.former if kept else ())[1]


def _opened(payload: bytes, namespace: str, link: Link, former: tuple[bytes, ...] = ()) -> tuple[bytes, bytes]:
    """Who signed, and what."""
    try:
        blobs, body = sshsig.unpack_signed(payload)
        signers = {sshsig.verify(blob, namespace, body) for blob in blobs}
    except TrustError as error:
        raise TrustError(
            f"what the server signed is not valid: {error.message}", server=link.name, code="bad-signature"
        ) from None
    if len(blobs) != 1 or not signers <= {link.identity, link.also, *former}:
        raise TrustError(
            "the server's identity key is not the pinned one",
            server=link.name,
            code="identity-changed",
            hint="pull the fleet folder: its key may have been rotated; if the server was reinstalled: "
            f"sf server remove {link.name} --forget, then sf server add",
        )
    return signers.pop(), body
