"""A client made from docs/protocol.md alone, for saying to a server what `sf` never would. It imports nothing of ours:
OpenSSH's client, the standard library and PyNaCl. Whoever holds a fleet's keys can drive a server with this file.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import os
import secrets
import select
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from nacl.exceptions import BadSignatureError
from nacl.signing import SigningKey, VerifyKey

HELLO, COMMAND, TRUST, BUNDLE, RECEIPT, PINS, CHECKPOINT = (
    f"{kind}.v1@serverflow" for kind in ("hello", "command", "trust", "bundle", "receipt", "pins", "checkpoint")
)
L = 2**252 + 27742317777372353535851937790883648493  # the order of Ed25519's base point (RFC 8032, 5.1)
CROCKFORD = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"


def string(data: bytes) -> bytes:
    """RFC 4251, 5."""
    return len(data).to_bytes(4, "big") + data


def framed(data: bytes) -> bytes:
    return len(data).to_bytes(4, "big") + data


def strings(data: bytes, count: int) -> list[bytes]:
    """The first `count` strings, and the rest as one more."""
    found = []
    for _ in range(count):
        size = int.from_bytes(data[:4], "big")
        found.append(data[4 : 4 + size])
        data = data[4 + size :]
    return [*found, data]


def encode(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()


def new_op() -> str:
    """A ULID."""
    value = time.time_ns() // 1_000_000 << 80 | secrets.randbits(80)
    return "".join(CROCKFORD[value >> shift & 31] for shift in range(125, -1, -5))


# --- keys and signatures ---------------------------------------------------------------------------------------------


def key_blob(public: bytes) -> bytes:
    return string(b"ssh-ed25519") + string(public)


def key_line(public: bytes) -> str:
    """As in authorized_keys(5)."""
    return "ssh-ed25519 " + base64.b64encode(key_blob(public)).decode()


def line_key(line: str) -> bytes:
    return strings(base64.b64decode(line.split()[1]), 2)[1]


@dataclass(frozen=True)
class Key:
    """A private key as ssh-keygen wrote it, without a passphrase (OpenSSH's PROTOCOL.key)."""

    path: Path

    @classmethod
    def make(cls, folder: Path, name: str) -> Key:
        path = folder / name
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", str(path)], check=True)
        return cls(path)

    @property
    def seed(self) -> bytes:
        lines = self.path.read_text().splitlines()
        data = base64.b64decode("".join(line for line in lines if not line.startswith("-")))
        private = strings(strings(data[15:], 3)[-1][4:], 2)[1]
        return strings(private[8:], 3)[2][:32]

    @property
    def public(self) -> bytes:
        return bytes(SigningKey(self.seed).verify_key)

    @property
    def line(self) -> str:
        return key_line(self.public)

    def sign(self, message: bytes) -> bytes:
        """The 64 bytes of RFC 8032."""
        return SigningKey(self.seed).sign(message).signature

    def sshsig(self, namespace: str, body: bytes) -> bytes:
        return Sig.by(self, namespace, body).blob()


def to_be_signed(namespace: str, body: bytes) -> bytes:
    """PROTOCOL.sshsig, 2.2."""
    return b"SSHSIG" + b"".join(map(string, (namespace.encode(), b"", b"sha512", hashlib.sha512(body).digest())))


@dataclass(frozen=True)
class Sig:
    """An SSHSIG, every field of which can be a lie (PROTOCOL.sshsig, 1)."""

    public: bytes
    signature: bytes
    namespace: str
    magic: bytes = b"SSHSIG"
    version: int = 1
    key_type: bytes = b"ssh-ed25519"
    reserved: bytes = b""
    hash: bytes = b"sha512"
    signature_type: bytes = b"ssh-ed25519"
    trailing: bytes = b""

    @classmethod
    def by(cls, key: Key, namespace: str, body: bytes) -> Sig:
        return cls(key.public, key.sign(to_be_signed(namespace, body)), namespace)

    def blob(self) -> bytes:
        public = string(self.key_type) + string(self.public)
        signature = string(self.signature_type) + string(self.signature)
        parts = public, self.namespace.encode(), self.reserved, self.hash, signature
        return self.magic + self.version.to_bytes(4, "big") + b"".join(map(string, parts)) + self.trailing


def signed(body: bytes, *blobs: bytes) -> bytes:
    return bytes([len(blobs)]) + b"".join(len(blob).to_bytes(2, "big") + blob for blob in blobs) + body


def opened(data: bytes, namespace: str, identity: bytes) -> dict[str, Any]:
    """The body of a `signed` with exactly one valid signature by `identity` for `namespace`."""
    size = int.from_bytes(data[1:3], "big")
    return verified(data[3 : 3 + size], data[3 + size :], namespace, identity) if data[:1] == b"\x01" else {}


def verified(blob: bytes, body: bytes, namespace: str, identity: bytes) -> dict[str, Any]:
    """The fields are compared whole: what we would build is what must be there."""
    public, said, _, _, signature, _ = strings(blob[10:], 5)
    raw = strings(signature, 2)[1]
    assert blob == Sig(identity, raw, namespace).blob(), (public, said)
    try:
        VerifyKey(identity).verify(to_be_signed(namespace, body), raw)
    except BadSignatureError:
        raise AssertionError("the server's signature is not valid") from None
    return dict(json.loads(body))


# --- one exchange ----------------------------------------------------------------------------------------------------


@dataclass
class Answer:
    """`kind` is what came last: R, E or, when the server only hung up, "". `body` is a receipt's, verified."""

    kind: str
    body: dict[str, Any]
    frames: list[tuple[str, bytes]]

    @property
    def verdict(self) -> str:
        """One word: done, unchanged …, a denial's or failure's code, refused for the generic error, closed."""
        if self.kind == "E":
            return "refused"
        return str(self.body["code"] or self.body["outcome"]) if self.body else "closed"


class Session:
    """One `sf1` request over one SSH channel, after its HELLO. `sent` records everything that we wrote."""

    def __init__(self, client: Client, process: subprocess.Popen[bytes], nonce: str) -> None:
        self.client = client
        self.process = process
        self.nonce = nonce
        self.sent = b""
        self.body = b""
        kind, payload = self.frame()
        assert kind == "H", (kind, payload, self.complaint())
        self.hello = opened(payload, HELLO, client.identity)
        assert (self.hello["nonce"], self.hello["server_id"]) == (nonce, client.server_id)

    def frame(self, within: float = 60) -> tuple[str, bytes]:
        """The next frame; ("", b"") when the server hung up."""
        head = self._read(5, within)
        if len(head) < 5:
            return "", b""
        return chr(head[0]), self._read(int.from_bytes(head[1:], "big"), within)

    def _read(self, size: int, within: float) -> bytes:
        assert self.process.stdout
        deadline, data = time.monotonic() + within, b""
        while len(data) < size:
            ready, _, _ = select.select([self.process.stdout], [], [], max(0, deadline - time.monotonic()))
            assert ready, f"the server says nothing for {within:g} s"
            part = os.read(self.process.stdout.fileno(), size - len(data))
            if not part:
                return b""
            data += part
        return data

    def complaint(self) -> str:
        assert self.process.stderr
        return self.process.stderr.read().decode()

    def send(self, data: bytes) -> None:
        assert self.process.stdin
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.write(data)
            self.process.stdin.flush()
        self.sent += data

    def close_input(self) -> None:
        assert self.process.stdin
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()

    def command(self, action: str, params: dict[str, Any] | None = None, **fields: Any) -> dict[str, Any]:
        """A right command's body, but for `fields`."""
        clock = self.hello["clock"]
        right = {
            "v": 1,
            "typ": "command",
            "server_id": self.client.server_id,
            "challenge": self.hello["challenge"],
            "op_id": new_op(),
            "action": action,
            "action_version": 1,
            "params": params or {},
            "trust_version": self.hello["trust_version"],
            "issued_at": clock,
            "expires_at": clock + 60_000,
            "limits": {},
            "mode": "run",
            "confirm_s": 0,
            "base": None,
            "plan_sha256": None,
            "secrets_commit": None,
            "blobs": [],
            "prev_receipt": "",
            "actor": "a test",
        }
        return {**right, **fields}

    def send_command(self, body: dict[str, Any] | bytes, secret_frame: bytes = b"", key: Key | None = None) -> None:
        self.body = body if isinstance(body, bytes) else encode(body)
        self.send(framed(signed(self.body, (key or self.client.key).sshsig(COMMAND, self.body))) + framed(secret_frame))

    def answer(self, blobs: Sequence[bytes] = (), within: float = 120) -> Answer:
        """Everything up to the last frame. A receipt must be signed by the pinned identity, for this connection."""
        frames = []
        while True:
            kind, payload = self.frame(within)
            frames.append((kind, payload))
            if kind == "G":
                self.send(b"".join(blobs))
            elif kind == "R":
                return Answer(kind, opened(payload, RECEIPT, self.client.identity), frames)
            elif kind in ("", "E"):
                assert kind == "" or payload == b'{"code":"refused"}', payload
                return Answer(kind, {}, frames)

    def ask(self, action: str, params: dict[str, Any] | None = None, **fields: Any) -> Answer:
        """A right command, and its answer, which must be to this very command."""
        self.send_command(self.command(action, params, **fields))
        return self.echoed(self.answer())

    def echoed(self, answer: Answer) -> Answer:
        if answer.body:
            said = {name: answer.body[name] for name in ("nonce", "challenge", "server_id", "body_sha256")}
            assert said == {
                "nonce": self.nonce,
                "challenge": self.hello["challenge"],
                "server_id": self.client.server_id,
                "body_sha256": hashlib.sha256(self.body).hexdigest(),
            }
        return answer


@dataclass(frozen=True)
class Client:
    """Someone with an SSH key that opens the login and a key to sign with; usually both are the same."""

    host: str
    port: int
    host_key: str
    identity: bytes
    server_id: str
    key: Key
    login: Key
    folder: Path = field(default_factory=lambda: Path(tempfile.mkdtemp(prefix="sf-")))

    def as_(self, key: Key, login: Key | None = None) -> Client:
        """The same place, other keys."""
        return replace(self, key=key, login=login or self.login, folder=Path(tempfile.mkdtemp(prefix="sf-")))

    def argv(self, program: str = "ssh", *, shared: bool = False) -> list[str]:
        """Plain OpenSSH that knows the server by its host key and nothing else.

        With `shared` all requests go through one connection, so that a hundred of them cost no hundred key exchanges.
        """
        known = self.folder / "known_hosts"
        known.write_text(f"target {self.host_key}\n")
        options = {
            "HostKeyAlias": "target", "UserKnownHostsFile": known, "GlobalKnownHostsFile": "/dev/null",
            "StrictHostKeyChecking": "yes", "IdentitiesOnly": "yes", "IdentityFile": self.login.path,
            "BatchMode": "yes", "ConnectTimeout": 10, "LogLevel": "ERROR", "PreferredAuthentications": "publickey",
            "SendEnv": "EVIL",
        }  # fmt: skip
        if shared:
            options |= {"ControlMaster": "auto", "ControlPath": self.folder / "ctl", "ControlPersist": 60}
        port = "-p" if program == "ssh" else "-P"
        flags = [word for name, value in options.items() for word in ("-o", f"{name}={value}")]
        return [program, "-F", "/dev/null", *flags, port, str(self.port)]

    @property
    def login_name(self) -> str:
        return f"serverflow@{self.host}"

    def ssh(
        self, *words: str, options: Sequence[str] = (), input: bytes = b"", env: dict[str, str] | None = None
    ) -> subprocess.CompletedProcess[bytes]:
        """The SSH client with whatever one may try; for at most 30 s."""
        argv = [*self.argv(), *options, self.login_name, *words]
        return subprocess.run(argv, input=input, capture_output=True, timeout=30, env={**os.environ, **(env or {})})

    @contextlib.contextmanager
    def session(self, *, shared: bool = True, nonce: str = "") -> Iterator[Session]:
        nonce = nonce or secrets.token_hex(32)
        argv = [*self.argv(shared=shared), self.login_name, f"sf1 {nonce}"]
        if shared and not (self.folder / "ctl").exists():
            # The one that stays in the background must not hold our pipes.
            subprocess.run(
                [*self.argv(shared=True), "-N", "-f", self.login_name],
                check=True,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
        with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
            session = None
            try:
                session = Session(self, process, nonce)
                yield session
            finally:
                process.kill()

    def close(self) -> None:
        """End the shared connection."""
        subprocess.run([*self.argv(shared=True), "-O", "exit", self.login_name], capture_output=True)

    def ask(self, action: str, params: dict[str, Any] | None = None, **fields: Any) -> Answer:
        """One right command on a session of its own."""
        with self.session() as session:
            return session.ask(action, params, **fields)

    def send(self, frame: bytes, within: float = 60) -> Answer:
        """Whatever bytes after HELLO; then our side is closed."""
        with self.session() as session:
            session.send(frame)
            session.close_input()
            return session.answer(within=within)

    def push(self, namespace: str, body: bytes, *keys: Key, content: Sequence[bytes] = ()) -> Answer:
        """A trust version or a bundle."""
        with self.session() as session:
            session.body = body
            session.send(framed(signed(body, *(key.sshsig(namespace, body) for key in keys))))
            return session.echoed(session.answer(content))
