"""Test servers: containers with systemd and sshd, driven through the docker command."""

import itertools
import os
import random
import socket
import subprocess
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from .console import Console

HERE = Path(__file__).parent
COMPOSE_FILE = HERE / "docker-compose.yml"
OWNER = "serverflow.tests"  # the label that says whose a container is: the process id of its test run
RELEASES = {"web1": "debian12", "db1": "debian12", "old1": "debian11", "new1": "debian13"}


def call(
    *argv: str | Path, input: str | None = None, check: bool = True, env: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a command and capture what it says; a failure tells what was said."""
    done = subprocess.run(argv, input=input, capture_output=True, text=True, env=env)
    return _checked(done) if check else done


def _checked(done: subprocess.CompletedProcess[str]) -> subprocess.CompletedProcess[str]:
    if done.returncode:
        error = subprocess.CalledProcessError(done.returncode, done.args, done.stdout, done.stderr)
        error.add_note(f"{done.stdout}{done.stderr}".strip())
        raise error
    return done


@dataclass(frozen=True)
class Target:
    """A running server. SSH answers at `host:port` and, from this machine and the other targets, at `ip:22`."""

    name: str
    release: str
    host: str
    port: int
    ip: str
    container: str
    admin_key: Path  # lets in root, admin (sudo without a password) and pwadmin (sudo with the password "testpw")
    network: str
    console: Console = field(repr=False, compare=False)

    def run(self, *argv: str, input: str | None = None, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a command as root beside sshd, so that it works whatever becomes of SSH or the network."""
        done = self.console.run(argv, input)
        return _checked(done) if check else done

    def host_key(self) -> str:
        """The public host key as `ssh-ed25519 AAAA…`, without the comment."""
        return " ".join(self.run("cat", "/etc/ssh/ssh_host_ed25519_key.pub").stdout.split()[:2])

    def reboot(self) -> None:
        """Shut down in order and start again. The host's boot_id and uptime stay: only PID 1 and /run are new."""
        call("docker", "stop", self.container)
        self._start()

    def power_cut(self) -> None:
        """Stop dead and start again."""
        call("docker", "kill", self.container)
        self._start()

    def pause(self) -> None:
        """Freeze every process: connections stay open and nothing answers."""
        self.console.close()
        call("docker", "pause", self.container)

    def unpause(self) -> None:
        call("docker", "unpause", self.container)

    def disconnect(self) -> None:
        """Pull the network cable."""
        call("docker", "network", "disconnect", self.network, self.container)

    def reconnect(self) -> None:
        call("docker", "network", "connect", "--ip", self.ip, "--alias", self.name, self.network, self.container)

    def wait_until_up(self, timeout: float = 60) -> None:
        """Wait for the end of the boot; sshd listens by then. Asking sshd itself would spend its patience
        (PerSourcePenalties) with callers that do not log in."""
        deadline = time.monotonic() + timeout
        asking = "docker", "exec", self.container, "systemctl", "is-system-running", "--wait"
        while call(*asking, check=False).stdout.strip() not in ("running", "degraded"):
            if time.monotonic() > deadline:
                raise TimeoutError(f"{self.name} ({self.container}) has not booted within {timeout:g} s")
            time.sleep(0.05)

    def _start(self) -> None:
        call("docker", "start", self.container)
        self.wait_until_up()


class Fleet:
    """The servers of one test run, each started when it is asked for, in a Compose project and network of their own."""

    def __init__(self, project: str, admin_key: Path) -> None:
        self.project = project
        self.admin_key = admin_key
        self._numbers = itertools.cycle(range(100, 250))
        public_key = admin_key.with_suffix(".pub").read_text().strip()
        self._env = os.environ | {"SF_OWNER": str(os.getpid()), "SF_ADMIN_KEY": public_key}
        self._env |= {f"SF_PORT_{name.upper()}": str(free_port()) for name in RELEASES}
        self._choose_network()

    def start(self, name: str) -> Target:
        make_image(RELEASES[name])
        self._up(name, "up", "-d", "--no-build", name)
        return self._target(name, RELEASES[name], f"{self.project}-{name}-1", int(self._env[f"SF_PORT_{name.upper()}"]))

    def start_fresh(self, release: str) -> Target:
        """A server for one test, to be removed after it."""
        make_image(release)
        number = next(self._numbers)
        name, port = f"fresh{number}", free_port()
        container = f"{self.project}-{name}"
        self._env |= {
            "SF_FRESH_NAME": name,
            "SF_FRESH_RELEASE": release,
            "SF_FRESH_NUMBER": str(number),
            "SF_FRESH_PORT": str(port),
        }
        self._up(name, "run", "-d", "--service-ports", "--name", container, "fresh")
        return self._target(name, release, container, port)

    def remove(self, target: Target) -> None:
        call("docker", "rm", "-f", "-v", target.container)

    def _target(self, name: str, release: str, container: str, port: int) -> Target:
        address = "{{range $name, $net := .NetworkSettings.Networks}}{{$name}} {{$net.IPAddress}}{{end}}"
        network, ip = call("docker", "inspect", "-f", address, container).stdout.split()
        target = Target(name, release, "127.0.0.1", port, ip, container, self.admin_key, network, Console(container))
        target.wait_until_up()
        return target

    def _up(self, name: str, *argv: str) -> None:
        while True:
            up = self._compose(*argv, check=False)
            if up.returncode == 0:
                return
            # Runs in parallel choose their networks at random, and two may choose the same.
            if "Pool overlaps" not in up.stderr:
                raise RuntimeError(f"{name} does not start:\n{up.stderr}")
            self._choose_network()

    def _choose_network(self) -> None:
        self._env["SF_NET"] = f"10.213.{random.randint(1, 254)}"

    def _compose(self, *argv: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        return call("docker", "compose", "-f", COMPOSE_FILE, "-p", self.project, *argv, check=check, env=self._env)


def make_image(release: str) -> None:
    call(HERE / "images.sh", release)


def free_port() -> int:
    """A port that stays free while its server reboots: below those that the kernel hands out by itself."""
    while True:
        port = random.randint(20000, 32000)
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


def remove_leftovers() -> None:
    """Remove what test runs have left behind that were killed before they could clean up."""
    for kind, everything in ("container", ["-a"]), ("network", []):
        columns = f'{{{{.ID}}}} {{{{.Label "{OWNER}"}}}}'
        listing = call("docker", kind, "ls", *everything, "--filter", f"label={OWNER}", "--format", columns)
        for row in listing.stdout.splitlines():
            thing, owner = row.split()
            if owner.isdecimal() and not _runs(int(owner)):
                # A run beside this one may be removing the same thing.
                call("docker", kind, "rm", *(["-f", "-v"] if kind == "container" else []), thing, check=False)


def _runs(pid: int) -> bool:
    if pid == os.getpid():
        return False  # an earlier process of this number: this run has not started anything yet
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True
