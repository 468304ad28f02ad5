"""The administrator's own SSH access, used once to enrol a server. ~/.ssh/config, known_hosts and the agent count here.

The host key is settled before anything is authenticated: an entry in known_hosts, a fingerprint that was given, or a
person who compares. There is no way past it.
"""

from __future__ import annotations

import asyncio
import contextlib
import shlex
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from ..errors import ActionFailed, TrustError, Unreachable
from ..model.address import parse_jump
from .ssh import KEX, Endpoint, explain, library, own_login

if TYPE_CHECKING:
    import asyncssh

CONNECT_S = 20


@dataclass(frozen=True)
class Destination:
    """Where to log in, as the operator wrote it; what is "" or 0 comes from ~/.ssh/config or the defaults."""

    name: str
    host: str
    user: str = ""
    port: int = 0
    identity_files: tuple[str, ...] = ()
    jump: str = ""


@dataclass(frozen=True)
class Seen:
    """The host key that a server shows, and where trust in it comes from. `origin` is "" when nobody vouches for it
    yet.
    """

    host: str
    port: int
    user: str
    key: str
    fingerprint: str
    origin: str


class AdminShell:
    """Programs run as root on the server: directly, or through sudo. Sudo's own refusals are ActionFailed."""

    def __init__(self, connection: asyncssh.SSHClientConnection, name: str, sudo: bool, password: str) -> None:
        self._connection = connection
        self._name = name
        self._sudo = sudo
        self._password = password

    async def run(self, argv: list[str], data: bytes = b"", timeout: float = 300) -> bytes:
        """What the program printed. Raises ActionFailed with the end of what it said."""
        code, out, said = await self.attempt(argv, data, timeout)
        if code:
            raise ActionFailed(f"{argv[0]}: {said[-500:] or f'exit code {code}'}", server=self._name)
        return out

    async def attempt(self, argv: list[str], data: bytes = b"", timeout: float = 300) -> tuple[int, bytes, str]:
        """Exit code, standard output and the text of standard error."""
        asyncssh = library()
        command, prefix = shlex.join(argv), b""
        if self._sudo and self._password:
            # -S reads the password from our pipe; an empty prompt keeps it out of what the program says.
            command, prefix = f"sudo -S -p '' -k -- {command}", self._password.encode() + b"\n"
        elif self._sudo:
            command = f"sudo -n -- {command}"
        try:
            async with asyncio.timeout(timeout):
                done = await self._connection.run(command, input=prefix + data, encoding=None)
        except TimeoutError:
            raise Unreachable(f"{argv[0]} did not end within {timeout:.0f} s", server=self._name) from None
        except (asyncssh.Error, OSError) as error:
            raise Unreachable(f"the connection was lost: {error}", server=self._name) from None
        status = done.exit_status if done.exit_status is not None else 255
        out = cast(bytes, done.stdout or b"")
        said = cast(bytes, done.stderr or b"").decode("utf-8", "replace").strip()
        if status and self._sudo and (trouble := _sudo_trouble(said)):
            raise ActionFailed(trouble[0], server=self._name, code="no-sudo", hint=trouble[1])
        return status, out, said

    async def forget_needless_password(self) -> None:
        """Where sudo asks for none it would leave the password to the program's standard input."""
        if self._sudo and self._password:
            done = await self._connection.run("sudo -n -k -- true", encoding=None)
            if done.exit_status == 0:
                self._password = ""


def _sudo_trouble(said: str) -> tuple[str, str] | None:
    """What sudo itself complains about, and a way out."""
    if "incorrect password" in said or "Sorry, try again" in said or "no password was provided" in said:
        return "sudo did not accept the password", "try again, or log in as root"
    if "a password is required" in said or "a terminal is required" in said:
        return "sudo asks for a password", "add --ask-sudo"
    if "sudo: not found" in said or "sudo: command not found" in said:
        return "sudo is not installed there", "log in as root: sf server add NAME root@HOST"
    if "is not in the sudoers file" in said or "is not allowed to" in said:
        return "sudo does not allow this login to become root", "log in as root, or as one who may"
    return None


async def look(destination: Destination) -> Seen:
    """The server's host key, before any login. Raises Unreachable, or TrustError when known_hosts has another key."""
    asyncssh = library()
    options = _options(destination)
    host, port, user = options.host, options.port, options.username
    endpoint = Endpoint(destination.name, host, port, user, ())
    known = _known_keys(host, port)
    async with _tunnel(destination) as tunnel:
        try:
            async with asyncio.timeout(CONNECT_S):
                key = await asyncssh.get_server_host_key(
                    host,
                    port,
                    tunnel=tunnel or (),
                    config=None,
                    kex_algs=KEX,
                    server_host_key_algs=_wanted(known),
                )
        except TimeoutError:
            raise Unreachable(
                f"no answer from {host} port {port} within {CONNECT_S} s",
                server=destination.name,
                code="connect-timeout",
            ) from None
        except (asyncssh.Error, OSError) as error:
            raise explain(error, endpoint) from error
    if key is None:
        raise Unreachable("the server shows no host key", server=destination.name)
    line = " ".join(key.export_public_key().decode().split()[:2])
    if known and line not in known:
        raise TrustError(
            "the host key is not the one in known_hosts",
            server=destination.name,
            code="host-key-changed",
            hint=f"it shows {key.get_fingerprint()}; if the server was reinstalled: ssh-keygen -R {host}",
        )
    return Seen(host, port, user, line, key.get_fingerprint(), "known_hosts" if known else "")


@contextlib.asynccontextmanager
async def login(
    destination: Destination, seen: Seen, sudo_password: str, passphrase: Callable[[str], str]
) -> AsyncIterator[AdminShell]:
    """Log in, accepting no other host key than the one that was settled. `passphrase` asks for a key file's. Raises
    SfError.
    """
    asyncssh = library()
    endpoint = Endpoint(destination.name, seen.host, seen.port, seen.user, (seen.key,))
    async with _tunnel(destination) as tunnel:
        try:
            async with asyncio.timeout(CONNECT_S):
                connection = await asyncssh.connect(
                    destination.host,  # as it was written: an alias has more in ~/.ssh/config than its address
                    seen.port,
                    tunnel=tunnel or (),
                    username=seen.user,
                    known_hosts=([asyncssh.import_public_key(seen.key)], [], []),
                    server_host_key_algs=_wanted({seen.key}),
                    keepalive_interval=15,
                    **_authentication(destination, passphrase),
                )
        except TimeoutError:
            raise Unreachable(
                f"no login to {seen.host} port {seen.port} within {CONNECT_S} s",
                server=destination.name,
                code="connect-timeout",
            ) from None
        except asyncssh.KeyImportError as error:
            raise TrustError(
                f"an SSH key cannot be used: {error}", server=destination.name, code="ssh-key-refused"
            ) from None
        except (asyncssh.Error, OSError) as error:
            failure = explain(error, endpoint)
            if failure.code == "ssh-key-refused":
                failure.hint = "give another login or key: sf server add NAME USER@HOST -i KEY"
            raise failure from error
        async with connection:
            shell = AdminShell(connection, destination.name, seen.user != "root", sudo_password)
            await shell.forget_needless_password()
            yield shell


def _options(destination: Destination) -> Any:
    """What ssh(1) would use: an alias of ~/.ssh/config is followed, what was given wins."""
    asyncssh = library()
    config = Path("~/.ssh/config").expanduser()
    given: dict[str, Any] = {"host": destination.host, "config": [str(config)] if config.is_file() else None}
    if destination.user:
        given["username"] = destination.user
    if destination.port:
        given["port"] = destination.port
    try:
        options = asyncssh.SSHClientConnectionOptions(**given)
    except (ValueError, OSError, asyncssh.Error) as error:
        raise Unreachable(f"~/.ssh/config cannot be used: {error}", server=destination.name) from error
    resolved = options.config.get("Hostname", destination.host)
    options.host, options.port = str(resolved), options.port or 22
    return options


def _authentication(destination: Destination, passphrase: Callable[[str], str]) -> dict[str, Any]:
    """Keys that were named and nothing else; or what ssh(1) would try: the config's, the agent's, the default files."""
    found = own_login() | {"passphrase": passphrase, "preferred_auth": "publickey"}
    if destination.identity_files:
        files = [str(Path(file).expanduser()) for file in destination.identity_files]
        # The agent may hold these; its other keys would come first, and sshd counts each (MaxAuthTries).
        halves = _public_halves(files)
        found |= {
            "client_keys": files,
            "agent_identities": halves,
            "agent_path": found["agent_path"] if halves else None,
        }
    return found


def _public_halves(files: list[str]) -> list[Any]:
    """What can be read of keys without a passphrase; nothing in some old formats."""
    found = []
    for file in files:
        with contextlib.suppress(OSError, library().KeyImportError):
            found.append(library().read_public_key(file))
    return found


def _known_keys(host: str, port: int) -> set[str]:
    """What ~/.ssh/known_hosts and the system's list have for this host; revoked keys and certificates are left out."""
    asyncssh = library()
    files = [
        path for path in (Path("~/.ssh/known_hosts").expanduser(), Path("/etc/ssh/ssh_known_hosts")) if path.is_file()
    ]
    found: set[str] = set()
    for path in files:
        with contextlib.suppress(ValueError, OSError):
            keys = asyncssh.match_known_hosts(str(path), host, "", port)[0]
            found |= {" ".join(key.export_public_key().decode().split()[:2]) for key in keys}
    return found


def _wanted(known: set[str]) -> list[str]:
    """Algorithms to ask for: those of the known keys; for a new server Ed25519 first."""
    types = [line.split(" ", 1)[0] for line in sorted(known)] or ["ssh-ed25519", "ecdsa-sha2-nistp256", "ssh-rsa"]
    types.sort(key=lambda kind: kind != "ssh-ed25519")
    return [
        name
        for kind in dict.fromkeys(types)
        for name in (("rsa-sha2-512", "rsa-sha2-256") if kind == "ssh-rsa" else (kind,))
    ]


async def look_at_jump(destination: Destination) -> Seen:
    """The jump host's key, by its entry in known_hosts: it is not ours to enrol. Raises TrustError without one."""
    seen = await look(_through(destination))
    if not seen.origin:
        raise TrustError(
            f"the jump host {seen.host} is not in known_hosts",
            server=destination.name,
            code="unknown-host-key",
            hint=f"log in once with ssh: ssh -p {seen.port} {seen.user}@{seen.host}",
        )
    return seen


def _through(destination: Destination) -> Destination:
    """The jump host as a destination; -i holds for it too."""
    jump = parse_jump(destination.jump)
    given = destination.jump.rpartition("@")[2].endswith(f":{jump.port}")  # else ~/.ssh/config may know the port
    return Destination(destination.name, jump.host, jump.user, jump.port if given else 0, destination.identity_files)


@contextlib.asynccontextmanager
async def _tunnel(destination: Destination) -> AsyncIterator[Any]:
    """A connection to the jump host, or None where there is none."""
    if not destination.jump:
        yield None
        return
    asyncssh = library()
    through = _through(destination)
    seen = await look_at_jump(destination)
    try:
        async with asyncio.timeout(CONNECT_S):
            connection = await asyncssh.connect(
                through.host,
                seen.port,
                username=seen.user,
                known_hosts=([asyncssh.import_public_key(seen.key)], [], []),
                server_host_key_algs=_wanted({seen.key}),
                **_authentication(through, lambda _: ""),
            )
    except TimeoutError:
        raise Unreachable(
            f"no login to the jump host {seen.host}", server=destination.name, code="connect-timeout"
        ) from None
    except (asyncssh.Error, OSError) as error:
        endpoint = Endpoint(destination.name, seen.host, seen.port, seen.user, (seen.key,), personal=True)
        raise explain(error, endpoint) from error
    async with connection:
        yield connection
