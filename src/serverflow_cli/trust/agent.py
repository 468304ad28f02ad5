"""Keys that an ssh-agent holds (draft-miller-ssh-agent, sections 3.5 and 3.6): we ask it to sign and see no key.

An agent may be broken, forwarded from elsewhere or hostile: what it answers is read strictly, in bounded time and
space, and a signature counts only once it fits the public key.
"""

from __future__ import annotations

import socket
import time
from dataclasses import dataclass

from ..errors import TrustError
from . import keys

_FAILURE, _REQUEST_IDENTITIES, _IDENTITIES, _SIGN_REQUEST, _SIGN_RESPONSE = 5, 11, 12, 13, 14
_LONGEST = 256 * 1024  # OpenSSH's own limit for a message
_MOST_KEYS = 2048  # likewise


@dataclass(frozen=True)
class Agent:
    """The agent behind a socket. Each request is a connection of its own. Times in seconds: to sign takes long where
    the agent asks a person first (`ssh-add -c`).
    """

    path: str
    answer_s: float = 5.0
    sign_s: float = 60.0

    def identities(self) -> dict[bytes, str]:
        """Public keys, as in the second word of their line but not in base64, and their comments. A locked agent shows
        none. Raises TrustError.
        """
        kind, answer = self._request(bytes([_REQUEST_IDENTITIES]), self.answer_s)
        if kind != _IDENTITIES or len(answer) < 4 or (count := int.from_bytes(answer[:4], "big")) > _MOST_KEYS:
            raise _broken()
        found, rest = {}, answer[4:]
        for _ in range(count):
            blob, rest = _take(rest)
            comment, rest = _take(rest)
            found[blob] = "".join(c if c.isprintable() else "?" for c in comment.decode("utf-8", "replace"))
        if rest:
            raise _broken()
        return found

    def sign(self, blob: bytes, message: bytes, name: str) -> bytes:
        """A signature as the wire has it, not verified. `name` is for the error. Raises TrustError."""
        request = bytes([_SIGN_REQUEST]) + _string(blob) + _string(message) + bytes(4)
        kind, answer = self._request(request, self.sign_s)
        if kind == _FAILURE:
            raise TrustError(
                f"ssh-agent declined to sign with {name}",
                code="agent-declined",
                hint="is it locked (ssh-add -X unlocks), or was its question not answered with yes?",
            )
        if kind != _SIGN_RESPONSE:
            raise _broken()
        signature, rest = _take(answer)
        if rest:
            raise _broken()
        return signature

    def _request(self, message: bytes, seconds: float) -> tuple[int, bytes]:
        """The answer's type and the rest of it."""
        deadline = time.monotonic() + seconds
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
                connection.settimeout(seconds)
                connection.connect(self.path)
                connection.sendall(_string(message))
                size = int.from_bytes(_read(connection, 4, deadline), "big")
                if not 1 <= size <= _LONGEST:
                    raise _broken()
                answer = _read(connection, size, deadline)
        except (OSError, ValueError) as error:  # ValueError: no such path can be
            reason = getattr(error, "strerror", None) or str(error) or "it took too long"
            raise TrustError(
                f"ssh-agent does not answer: {reason.lower()}",
                code="no-agent",
                hint="does one run at $SSH_AUTH_SOCK? ssh-add -l",
            ) from None
        return answer[0], answer[1:]


@dataclass(frozen=True)
class AgentKey:
    """A Signer whose private half stays in an ssh-agent."""

    public_key: bytes
    agent: Agent
    comment: str = ""

    @property
    def openssh(self) -> str:
        return keys.public_line(self.public_key, self.comment)

    def sign(self, message: bytes) -> bytes:
        """The raw 64 bytes of an Ed25519 signature over the message. Raises TrustError."""
        from nacl.exceptions import CryptoError
        from nacl.signing import VerifyKey

        name = self.comment or keys.fingerprint(self.public_key)
        answer = self.agent.sign(keys.public_blob(self.public_key), message, name)
        signature = answer[-64:]
        try:
            if answer != _string(b"ssh-ed25519") + _string(signature):
                raise ValueError
            VerifyKey(self.public_key).verify(message, signature)
        except (CryptoError, ValueError):
            raise TrustError(f"ssh-agent made no valid signature with {name}", code="agent-broken") from None
        return signature


def _read(connection: socket.socket, size: int, deadline: float) -> bytes:
    """Exactly so many bytes, before the deadline. Raises OSError."""
    data = bytearray()
    while len(data) < size:
        left = deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError
        connection.settimeout(left)
        piece = connection.recv(size - len(data))
        if not piece:
            raise OSError("it closed the connection")
        data += piece
    return bytes(data)


def _string(value: bytes) -> bytes:
    return len(value).to_bytes(4, "big") + value


def _take(data: bytes) -> tuple[bytes, bytes]:
    """An SSH string and what follows it. Raises TrustError when it is cut short."""
    end = 4 + int.from_bytes(data[:4], "big")
    if len(data) < max(end, 4):
        raise _broken()
    return data[4:end], data[end:]


def _broken() -> TrustError:
    return TrustError("what ssh-agent answers makes no sense", code="agent-broken", hint="is it one? ssh-add -l")
