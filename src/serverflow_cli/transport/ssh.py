"""One SSH connection with a pinned host key, and what can go wrong with it in words.

Only the algorithms that every supported sshd has, the cheapest good ones first. Nothing is taken from ~/.ssh here:
servers are in fleet.toml, their host keys in pins.toml. Enrolment, which does read ~/.ssh, is in transport/admin.py.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from ..errors import SfError, TrustError, Unreachable
from .frames import ConnectionLost, FrameReader
from .login import Login, LoginKeys, declined

if TYPE_CHECKING:
    import asyncssh

KEX = ["curve25519-sha256", "curve25519-sha256@libssh.org", "ecdh-sha2-nistp256", "diffie-hellman-group16-sha512"]
CIPHERS = ["aes128-gcm@openssh.com", "aes256-gcm@openssh.com", "chacha20-poly1305@openssh.com", "aes256-ctr"]
MACS = ["hmac-sha2-256-etm@openssh.com", "hmac-sha2-256"]
KEEPALIVE_S = 15
ANNOUNCED_S = 1


@dataclass(frozen=True)
class Endpoint:
    """Where a server is and how it proves itself. `host_keys` are full public keys, `ssh-ed25519 AAAA…`.

    A jump host is `personal`: not ours, so the operator logs in as with ssh(1), by the agent, the default key files or
    what ~/.ssh/config says; the key that opens the fleet's servers is never offered to it. `user` may be "" there.
    """

    name: str
    host: str
    port: int
    user: str
    host_keys: tuple[str, ...]
    jump: Endpoint | None = None
    personal: bool = False


class Exec:
    """A running exec request: frames in, bytes out."""

    def __init__(self, process: asyncssh.SSHClientProcess[bytes], name: str) -> None:
        self._process = process
        self._name = name
        self.frames = FrameReader(self._read)

    async def write(self, data: bytes) -> None:
        """Send, waiting while the window is full. Raises ConnectionLost."""
        try:
            self._process.stdin.write(data)
            await self._process.stdin.drain()
        except (OSError, library().Error):
            raise ConnectionLost("the connection ended in the middle", server=self._name) from None

    async def _read(self, size: int) -> bytes:
        try:
            return await self._process.stdout.readexactly(size)
        except (OSError, library().Error):  # the network went; a server that hangs up is IncompleteReadError
            raise ConnectionLost("the connection was cut", server=self._name) from None

    def close(self) -> None:
        """Hang up, and leave the connection open for another request."""
        self._process.close()

    async def complaint(self) -> SfError:
        """Why there was no HELLO, from what the login printed."""
        with contextlib.suppress(Exception):
            async with asyncio.timeout(5):
                said = (await self._process.stderr.read(4000)).decode("utf-8", "replace").strip()
                await self._process.wait_closed()
                return _why_no_hello(self._name, said, self._process.exit_status)
        return Unreachable("the server closed the connection without a word", server=self._name)


def library() -> ModuleType:
    """asyncssh, imported when the first connection is made.

    While it loads it looks for two C libraries that we never use, by starting ldconfig and a compiler: 25 ms.
    """
    if "asyncssh" not in sys.modules:
        import ctypes.util

        find = ctypes.util.find_library
        ctypes.util.find_library = _find_nothing
        try:
            import asyncssh
        finally:
            ctypes.util.find_library = find
    import asyncssh

    return asyncssh


def _find_nothing(name: str) -> str | None:  # noqa: ARG001  (the signature of ctypes.util.find_library)
    return None


@dataclass
class _Held:
    """A connection that is kept for several requests, and what closes it. None before it is there, and once it was hung
    up: the next request brings another. The last of `users` closes it; one at a time opens it.
    """

    stack: contextlib.AsyncExitStack = field(default_factory=contextlib.AsyncExitStack)
    connection: asyncssh.SSHClientConnection | None = None
    users: int = 0
    opening: asyncio.Lock = field(default_factory=asyncio.Lock)


class Connector:
    """Opens connections with one set of login keys. As a context manager it ends its talk with the agent."""

    def __init__(self, keys: LoginKeys, timeout: float = 15.0) -> None:
        self._keys = Login(keys)
        self._timeout = timeout
        self._parsed: dict[str, Any] = {}
        self._held: dict[Endpoint, _Held] = {}

    async def __aenter__(self) -> Connector:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._keys.close()

    @contextlib.asynccontextmanager
    async def listen(self, endpoint: Endpoint) -> AsyncIterator[Callable[[], Awaitable[tuple[str, ...]]]]:
        """Keep one connection, and hear which host keys the server announces on it (hostkeys-00@openssh.com, OpenSSH's
        PROTOCOL, 2.5). What it gives waits for those of the pinned kinds that are not pinned; the server has proved
        that it holds them, and that is no reason to trust them. Servers announce right after the login, if they do.
        """
        heard: asyncio.Future[tuple[str, ...]] = asyncio.get_running_loop().create_future()
        kinds = {line.split(" ", 1)[0] for line in endpoint.host_keys}

        def hear(added: Sequence[asyncssh.SSHKey], *_: object) -> None:
            lines = (" ".join(key.export_public_key().decode().split()[:2]) for key in added)
            if not heard.done():
                heard.set_result(tuple(sorted(line for line in lines if line.split(" ", 1)[0] in kinds)))

        async def announced() -> tuple[str, ...]:
            await asyncio.wait({heard}, timeout=ANNOUNCED_S)
            return heard.result() if heard.done() else ()

        async with self.hold(endpoint, hear):
            yield announced

    @contextlib.asynccontextmanager
    async def hold(self, endpoint: Endpoint, hear: Callable[..., None] | None = None) -> AsyncIterator[None]:
        """Keep one connection for several requests to the same server; inside of such a block, and beside it, the same
        one.
        """
        held = self._held.setdefault(endpoint, _Held())
        held.users += 1
        try:
            if held.users == 1:
                await self._the_one(held, endpoint, hear)
            yield
        finally:
            held.users -= 1
            if not held.users:
                del self._held[endpoint]
                await held.stack.aclose()

    async def hang_up(self, endpoint: Endpoint) -> None:
        """End the held connection, if there is one: the next request is over a new one, which is held in its place."""
        held = self._held.get(endpoint)
        if held:
            held.connection = None
            await held.stack.aclose()

    @contextlib.asynccontextmanager
    async def connect(
        self, endpoint: Endpoint, hear: Callable[..., None] | None = None
    ) -> AsyncIterator[asyncssh.SSHClientConnection]:
        """A connection that is closed at the end, or the held one. Raises Unreachable or TrustError, with what to look
        at.
        """
        held = self._held.get(endpoint)
        if held:
            yield await self._the_one(held, endpoint, hear)
            return
        async with contextlib.AsyncExitStack() as stack:
            yield await self._connected(endpoint, stack, hear)

    async def _the_one(
        self, held: _Held, endpoint: Endpoint, hear: Callable[..., None] | None
    ) -> asyncssh.SSHClientConnection:
        """The held connection. Raises as `connect` does."""
        async with held.opening:
            held.connection = held.connection or await self._connected(endpoint, held.stack, hear)
            return held.connection

    async def _connected(
        self, endpoint: Endpoint, stack: contextlib.AsyncExitStack, hear: Callable[..., None] | None
    ) -> asyncssh.SSHClientConnection:
        """A new connection, which `stack` will close."""
        tunnel = await stack.enter_async_context(self.connect(endpoint.jump)) if endpoint.jump else None
        connection = await self._open(endpoint, tunnel, hear)
        stack.callback(connection.abort)
        return connection

    async def run(self, connection: asyncssh.SSHClientConnection, endpoint: Endpoint, request: str) -> Exec:
        """Start an exec request. Raises Unreachable."""
        lib = library()
        try:
            return Exec(await connection.create_process(request, encoding=None), endpoint.name)
        except lib.ChannelOpenError as error:
            raise Unreachable(f"the server refuses to run commands: {error.reason}", server=endpoint.name) from error
        except (lib.Error, OSError) as error:
            raise ConnectionLost(f"the connection ended: {error}", server=endpoint.name) from error

    async def _open(
        self, endpoint: Endpoint, tunnel: Any, hear: Callable[..., None] | None
    ) -> asyncssh.SSHClientConnection:
        try:
            async with asyncio.timeout(self._timeout):
                # Before asyncssh is loaded: sshd starts meanwhile. A jump host may be an alias in ~/.ssh/config.
                sock = None if tunnel or endpoint.personal else await _dial(endpoint.host, endpoint.port)
                connection: asyncssh.SSHClientConnection = await library().connect(
                    endpoint.host,
                    endpoint.port,
                    tunnel=tunnel or (),
                    sock=sock,
                    known_hosts=self._trusted(endpoint),
                    server_host_keys_handler=hear,
                    preferred_auth="publickey",
                    kex_algs=KEX,
                    encryption_algs=CIPHERS,
                    mac_algs=MACS,
                    compression_algs=None,
                    server_host_key_algs=_algorithms(endpoint.host_keys),
                    keepalive_interval=KEEPALIVE_S,
                    login_timeout=0,
                    **await self._login(endpoint),
                )
                return connection
        except TimeoutError:
            raise _timeout(endpoint, self._timeout) from None
        except (library().Error, OSError) as error:
            if self._keys.declined and isinstance(error, library().PermissionDenied):
                raise declined(endpoint.name) from None
            raise explain(error, endpoint) from error

    async def _login(self, endpoint: Endpoint) -> dict[str, Any]:
        if not endpoint.personal:
            keys = await self._keys.pairs(library()) or None  # an empty list would mean those in ~/.ssh
            return {"username": endpoint.user, "client_keys": keys, "agent_path": None, "config": None}
        return own_login() | ({"username": endpoint.user} if endpoint.user else {})

    def _trusted(self, endpoint: Endpoint) -> tuple[list[Any], list[Any], list[Any]]:
        """The pins and nothing else. An empty list refuses every key."""
        keys = []
        for line in endpoint.host_keys:
            if line not in self._parsed:
                self._parsed[line] = library().import_public_key(line)
            keys.append(self._parsed[line])
        return keys, [], []


def own_login() -> dict[str, Any]:
    """The operator's own way in, as ssh(1) finds it: ~/.ssh/config, the agent, the default key files."""
    config = Path("~/.ssh/config").expanduser()
    agent = os.environ.get("SSH_AUTH_SOCK") or None
    return {"config": [str(config)] if config.is_file() else None, "agent_path": agent}


class _PromptSocket(socket.socket):
    """Acknowledges at once what it receives (tcp(7), TCP_QUICKACK; elsewhere than on Linux a plain socket).

    While somebody logs in, sshd leaves Nagle's algorithm on: it keeps its next packet back until the one before is
    acknowledged, which the kernel would put off by 40 ms.
    """

    def recv(self, size: int, flags: int = 0, /) -> bytes:
        data = super().recv(size, flags)
        if sys.platform == "linux":
            self.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
        return data


async def _dial(host: str, port: int) -> socket.socket:
    """A TCP connection to the first address of the host that answers. Raises OSError."""
    loop = asyncio.get_running_loop()
    trouble = OSError(f"{host} has no address")
    for family, kind, protocol, _, address in await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM):
        connection = _PromptSocket(family, kind, protocol)
        connection.setblocking(False)
        try:
            await loop.sock_connect(connection, address)
        except OSError as error:
            connection.close()
            trouble = error
        except BaseException:
            connection.close()
            raise
        else:
            return connection
    raise trouble


def _algorithms(host_keys: Sequence[str]) -> list[str]:
    """Signature algorithms: the pinned key types first, so that a server with several keys shows the one that we know.

    The others follow, because a server that lost the pinned key would else hang up without a reason; what it shows then
    is compared with the pins and refused.
    """
    kinds = [line.split(" ", 1)[0] for line in host_keys] + ["ssh-ed25519", "ecdsa-sha2-nistp256", "ssh-rsa"]
    found: list[str] = []
    for kind in kinds:
        found += ["rsa-sha2-512", "rsa-sha2-256"] if kind == "ssh-rsa" else [kind]
    return list(dict.fromkeys(found))


def _timeout(endpoint: Endpoint, seconds: float) -> Unreachable:
    return Unreachable(
        f"no answer from {endpoint.host} port {endpoint.port} within {seconds:.0f} s",
        server=endpoint.name,
        code="connect-timeout",
        hint="is it up, and does a firewall let you through?",
    )


_REFUSED = {
    "ConnectionRefusedError": ("connection-refused", "is sshd running, and is this the right port?"),
    "gaierror": ("unknown-host", "check `host` in fleet.toml"),
}


def explain(error: Exception, endpoint: Endpoint) -> SfError:
    """An error of asyncssh or of the socket as one sentence, a code and a way out."""
    asyncssh = library()
    where = f"{endpoint.host} port {endpoint.port}"
    if endpoint.personal:
        return _explain_jump(error, endpoint, f"the jump host {where}")
    if endpoint.host_keys and (isinstance(error, asyncssh.HostKeyNotVerifiable) or "host key" in str(error).lower()):
        return TrustError(
            "host key does not match the pinned key",
            server=endpoint.name,
            code="host-key-changed",
            hint="pull the fleet folder: its key may have been rotated; "
            f"if the server was reinstalled: sf server remove {endpoint.name} --forget, then sf server add; "
            "if not, someone may be in between",
        )
    if isinstance(error, asyncssh.HostKeyNotVerifiable):
        return TrustError(
            "its host key is not pinned", server=endpoint.name, code="unknown-host-key", hint="sf server add"
        )
    if isinstance(error, asyncssh.PermissionDenied):
        return TrustError(
            f"{where} does not accept our SSH key for {endpoint.user}",
            server=endpoint.name,
            code="ssh-key-refused",
            hint="is this key in the trust file, and has the server that version? sf server check",
        )
    code, hint = _REFUSED.get(type(error).__name__, ("unreachable", ""))
    if isinstance(error, OSError):
        reason = error.strerror or str(error)
        if code == "connection-refused":
            reason = "connection refused"
        return Unreachable(f"cannot connect to {where}: {reason.lower()}", server=endpoint.name, code=code, hint=hint)
    return Unreachable(
        f"SSH to {where} failed: {error}", server=endpoint.name, hint=hint or "is it an SSH server that listens there?"
    )


def _explain_jump(error: Exception, endpoint: Endpoint, where: str) -> SfError:
    """A jump host is not in the fleet, so the ways out are ssh(1)'s."""
    asyncssh = library()
    if isinstance(error, asyncssh.HostKeyNotVerifiable) or "host key" in str(error).lower():
        return TrustError(
            f"the host key of {where} does not match the pinned key",
            server=endpoint.name,
            code="host-key-changed",
            hint="if it was reinstalled: settle known_hosts with ssh, then run sf server add with --jump again",
        )
    if isinstance(error, asyncssh.PermissionDenied):
        return TrustError(
            f"{where} does not accept your own SSH keys",
            server=endpoint.name,
            code="ssh-key-refused",
            hint="load one that it knows into ssh-agent, or name it in ~/.ssh/config",
        )
    reason = (error.strerror or str(error)).lower() if isinstance(error, OSError) else str(error)
    return Unreachable(
        f"cannot connect to {where}: {reason}", server=endpoint.name, hint="can you log in there with ssh?"
    )


_LOGIN_TROUBLE: Mapping[str, tuple[str, str, str]] = {
    "sudo: not found": ("no-sudo", "sudo is not installed on the server", "run sf server add again"),
    "a password is required": (
        "no-sudo",
        "sudo asks for a password on the server",
        "run sf server add again: its sudo rule is gone",
    ),
    "is not allowed to": (
        "no-sudo",
        "sudo does not allow the runner",
        "run sf server add again: its sudo rule is gone",
    ),
    "bad interpreter": (
        "no-python",
        "python3 is missing on the server",
        "install python3, then run sf server add again",
    ),
    "unable to execute": (
        "no-python",
        "the runner cannot start: python3 is missing on the server",
        "install python3 there",
    ),
    "runner: command not found": ("no-runner", "the runner is missing on the server", "run sf server add again"),
    "runner: not found": ("no-runner", "the runner is missing on the server", "run sf server add again"),
    "No module named": ("no-runner", "the runner's files are damaged on the server", "run sf server add again"),
}


def _why_no_hello(name: str, said: str, status: int | None) -> SfError:
    for words, (code, message, hint) in _LOGIN_TROUBLE.items():
        if words in said:
            return Unreachable(message, server=name, code=code, hint=hint)
    last = said.splitlines()[-1] if said else f"exit code {status}"
    return Unreachable(
        f"the runner did not start: {last[:300]}", server=name, code="no-runner", hint="run sf server add again"
    )
