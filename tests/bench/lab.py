"""Enrolled servers, each with many addresses: a hundred endpoints, named s001 … s100.

With ten servers s001 … s010 are different ones; s011 is s001 at another address, and so on. Reads do not mind; a
change, whose operation id counts once on a server, is measured on the real ones.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ..targets.operator import SF, Operator, fingerprint, new_operator
from ..targets.target import COMPOSE_FILE, Fleet, Target, call

ENDPOINTS = 100
APP = "bench"
SSHD = "MaxStartups 500\nMaxSessions 500\n"
#: The last parts of addresses that Fleet gives to no server when it starts fewer than 20.
FREE = range(120, 120 + ENDPOINTS)

#: The same servers under more names: stanzas and signed pins.
MORE_NAMES = """
import sys
from dataclasses import replace
from serverflow_cli.config.environment import read_environment
from serverflow_cli.config.folder import find
from serverflow_cli.flows.workspace import Workspace
workspace = Workspace(find(sys.argv[1], {}), read_environment({}))
pins, stanzas = dict(workspace.pins), []
for number, address in enumerate(sys.argv[2:]):
    name, first = f"s{number + 1:03}", f"s{number % len(workspace.pins) + 1:03}"
    if name not in pins:
        pins[name] = replace(workspace.pins[first], name=name, address=f"{address}:22")
        stanzas.append(f'\\n[servers.{name}]\\nhost = "{address}"\\n')
with (workspace.folder.path / "fleet.toml").open("a") as file:
    file.write("".join(stanzas))
workspace.write_pins(lambda _: pins)
"""


@dataclass(frozen=True)
class Lab:
    """The endpoints' addresses, and an operator who has enrolled them."""

    operator: Operator
    targets: tuple[Target, ...]
    addresses: tuple[str, ...]
    folder: Path

    def endpoints(self, count: int) -> list[tuple[str, str]]:
        """Name and address of the first ones."""
        return [(f"s{number + 1:03}", address) for number, address in enumerate(self.addresses[:count])]

    def selector(self, count: int) -> str:
        return ",".join(name for name, _ in self.endpoints(count))

    @property
    def known_hosts(self) -> Path:
        return self.folder / "known_hosts"

    @property
    def key(self) -> Path:
        return self.targets[0].admin_key

    def server_cpu(self) -> float:
        """Seconds of CPU that the servers' control groups have used so far."""
        return sum(map(_cpu, self.targets))


def _cpu(target: Target) -> float:
    full = call("docker", "inspect", "-f", "{{.Id}}", target.container).stdout.strip()
    old = Path(f"/sys/fs/cgroup/cpuacct/docker/{full}/cpuacct.usage")
    if old.exists():
        return int(old.read_text()) / 1e9
    found = next(Path("/sys/fs/cgroup").glob(f"**/*{full}*/cpu.stat"))
    return int(found.read_text().split()[1]) / 1e6


@contextmanager
def lab(folder: Path, servers: int) -> Iterator[Lab]:
    """Start and enrol the servers; remove them in the end. Ten need fs.inotify.max_user_instances above 128."""
    key = folder / "admin"
    call("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key)
    project = f"serverflow-bench-{os.getpid()}"
    fleet = Fleet(project, key)
    try:
        targets = tuple(fleet.start_fresh("debian12") for _ in range(servers))
        operator = new_operator(folder)
        for number, target in enumerate(targets):
            login = ["server", "add", f"s{number + 1:03}", f"root@{target.ip}", "-i", str(key)]
            operator.run(*login, "--fingerprint", fingerprint(target))
            target.run("tee", "/etc/ssh/sshd_config.d/50-bench.conf", input=SSHD)
            target.run("systemctl", "restart", "ssh")
        operator.run("app", "create", APP, "--on", "all", "--yes")
        addresses = tuple(target.ip for target in targets) + tuple(_more_addresses(targets))
        python = SF.with_name("python")
        call(python, "-c", MORE_NAMES, operator.fleet, *addresses, env=operator.environment())
        found = Lab(operator, targets, addresses, folder)
        keys = [target.host_key() for target in targets]
        known = [f"{address} {keys[number % servers]}\n" for number, address in enumerate(addresses)]
        found.known_hosts.write_text("".join(known))
        yield found
    finally:
        down = ["--profile", "fresh", "down", "--volumes", "--remove-orphans", "--timeout", "0"]
        call("docker", "compose", "-f", COMPOSE_FILE, "-p", project, *down, check=False)


def _more_addresses(targets: tuple[Target, ...]) -> Iterator[str]:
    """Addresses for the other endpoints, dealt out to the servers in turn."""
    network = targets[0].ip.rpartition(".")[0]
    for number, last in zip(range(len(targets), ENDPOINTS), FREE, strict=False):
        target = targets[number % len(targets)]
        target.run("ip", "address", "add", f"{network}.{last}/24", "dev", "eth0")
        yield f"{network}.{last}"
