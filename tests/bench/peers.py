"""The tools that ServerFlow is compared with, from PyPI, in a virtual environment of their own; and OpenSSH.

Each does with its own defaults what its manual shows for the task; only the number of hosts at a time is set where the
default is low, the key exchange is curve25519 for all, and nobody reads ~/.ssh.
"""

from __future__ import annotations

import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path

from .lab import APP, Lab
from .measure import Command

ROOT = Path(__file__).parents[2]
VENV = ROOT / ".cache/bench-venv"
AT_ONCE = 32

FABRIC = """
import sys
from fabric import Connection, ThreadingGroup
import paramiko
paramiko.Transport._preferred_kex = ("curve25519-sha256@libssh.org",)
connections = [
    Connection(host, user="root", connect_kwargs={"key_filename": sys.argv[1], "look_for_keys": False})
    for host in sys.argv[2:]
]
for result in ThreadingGroup.from_connections(connections).run("hostname", hide=True).values():
    print(result.stdout.strip())
"""

PLAYBOOK = """
- hosts: all
  gather_facts: true
  tasks:
    - ansible.builtin.copy: {src: %s, dest: /srv/%s/file, mode: "0640"}
"""


def prepare() -> None:
    """Install the `bench` group of pyproject.toml, once."""
    if not (VENV / "bin/ansible").exists() or not (VENV / "bin/pyinfra").exists():
        wanted = tomllib.loads((ROOT / "pyproject.toml").read_text())["dependency-groups"]["bench"]
        subprocess.run([sys.executable, "-m", "venv", VENV], check=True)
        subprocess.run([VENV / "bin/pip", "install", "-q", *wanted], check=True)


def versions() -> dict[str, str]:
    """What is compared."""
    listed = "import importlib.metadata as m; print({n: m.version(n) for n in ('pyinfra', 'fabric', 'ansible-core')})"
    peers = subprocess.run([VENV / "bin/python", "-c", listed], capture_output=True, text=True, check=True)
    ssh = subprocess.run(["ssh", "-V"], capture_output=True, text=True, check=True)
    return {"peers": peers.stdout.strip(), "ssh": ssh.stderr.strip(), "python": sys.version.split()[0]}


class Peers:
    """The commands of all tools for the same task on the same endpoints."""

    def __init__(self, lab: Lab) -> None:
        self._lab = lab
        self._env = {"HOME": str(lab.folder), "PATH": f"{VENV}/bin:/usr/bin:/bin", "LANG": "C.UTF-8", "TERM": "dumb"}
        self._names = [target.run("hostname").stdout.strip() for target in lab.targets]
        (lab.folder / ".ssh").mkdir(exist_ok=True)
        (lab.folder / ".ssh/known_hosts").write_text(lab.known_hosts.read_text())

    def hostnames(self, count: int) -> list[Command]:
        """Run `hostname` on the first endpoints; `sf` answers it as a signed read with eleven more facts."""
        return [self.sf(count), self.ssh(count), self.pyinfra(count), self.fabric(count), self.ansible(count)]

    def sf(self, count: int) -> Command:
        argv = ["--json", "system", "info", "--on", self._lab.selector(count)]
        return self._sf("sf", argv, count)

    def ssh(self, count: int) -> Command:
        options = f"-n -F none -i {self._lab.key} -o IdentitiesOnly=yes -o UserKnownHostsFile={self._lab.known_hosts}"
        options += " -o KexAlgorithms=curve25519-sha256 -o BatchMode=yes"
        if count == 1:
            ((_, host),) = self._lab.endpoints(1)
            return self._command("ssh", ["ssh", *options.split(), f"root@{host}", "hostname"], count)
        file = self._lab.folder / f"xargs{count}"
        file.write_text("".join(f"root@{host}\n" for _, host in self._lab.endpoints(count)))
        line = f"xargs -a {file} -P {AT_ONCE} -L 1 sh -c 'exec ssh {options} \"$@\" hostname' -"
        return self._command("ssh", ["sh", "-c", line], count)

    def pyinfra(self, count: int) -> Command:
        options = {
            "ssh_user": "root",
            "ssh_key": str(self._lab.key),
            "ssh_paramiko_connect_kwargs": {"look_for_keys": False},
        }
        hosts = [(name, {**options, "ssh_hostname": host}) for name, host in self._lab.endpoints(count)]
        file = self._lab.folder / f"inventory{count}.py"
        file.write_text(f"hosts = {hosts!r}\n")
        return self._command("pyinfra", [f"{VENV}/bin/pyinfra", "-y", str(file), "exec", "--", "hostname"], count)

    def fabric(self, count: int) -> Command:
        hosts = [host for _, host in self._lab.endpoints(count)]
        argv = [f"{VENV}/bin/python", "-c", FABRIC, str(self._lab.key), *hosts]
        return self._command("fabric", argv, count)

    def ansible(self, count: int) -> Command:
        argv = [f"{VENV}/bin/ansible", "-i", self._inventory(count), "-f", str(AT_ONCE), "all"]
        return self._command("ansible raw", [*argv, "-m", "raw", "-a", "hostname"], count)

    def facts_and_file(self) -> list[Command]:
        """The server's facts and a file of 1 KB with new content, on each real server."""
        file = self._lab.folder / "file"
        change = f"head -c 768 /dev/urandom | base64 -w 0 >{file}"
        sf = "/".join(["", *Path(sys.executable).parts[1:-1], "sf"])
        real = len(self._lab.targets)
        names = self._lab.selector(real)
        both = f"{sf} --json system info --on {names} && {sf} --json file put {APP} {file} file --on {names} --yes"
        playbook = self._lab.folder / "play.yml"
        playbook.write_text(PLAYBOOK % (file, APP))
        play = f"{VENV}/bin/ansible-playbook -i {self._inventory(real)} -f {AT_ONCE} {playbook}"
        operator = self._lab.operator
        return [
            Command("sf", ["sh", "-c", f"{change}; {both}"], operator.environment(), operator.fleet, self._has_file),
            Command(
                "ansible",
                ["sh", "-c", f"{change}; {play}"],
                self._env | self._ansible(),
                self._lab.folder,
                self._has_file,
            ),
        ]

    def _has_file(self, _said: str) -> bool:
        content = (self._lab.folder / "file").read_text()
        return all(target.run("cat", f"/srv/{APP}/file").stdout == content for target in self._lab.targets)

    def _sf(self, name: str, argv: list[str], count: int) -> Command:
        operator = self._lab.operator
        sf = str(Path(sys.executable).with_name("sf"))
        return Command(name, [sf, *argv], operator.environment(), operator.fleet, self._all_said(count))

    def _command(self, name: str, argv: list[str], count: int) -> Command:
        return Command(name, argv, self._env | self._ansible(), self._lab.folder, self._all_said(count))

    def _all_said(self, count: int) -> Callable[[str], bool]:
        """Every endpoint's hostname is in what the tool printed, as often as it has endpoints."""
        wanted = [self._names[n % len(self._names)] for n in range(count)]
        return lambda said: all(said.count(name) >= wanted.count(name) for name in set(wanted))

    def _inventory(self, count: int) -> str:
        lines = [
            f"{name} ansible_host={host} ansible_user=root "
            f"ansible_ssh_private_key_file={self._lab.key} ansible_python_interpreter=/usr/bin/python3\n"
            for name, host in self._lab.endpoints(count)
        ]
        file = self._lab.folder / f"hosts{count}.ini"
        file.write_text("[all]\n" + "".join(lines))
        return str(file)

    def _ansible(self) -> dict[str, str]:
        return {
            "ANSIBLE_PIPELINING": "true",
            "ANSIBLE_NOCOWS": "1",
            "ANSIBLE_SSH_ARGS": "-C -o ControlMaster=auto -o ControlPersist=60s -o KexAlgorithms=curve25519-sha256"
            f" -F none -o UserKnownHostsFile={self._lab.known_hosts}",
            "ANSIBLE_LOCAL_TEMP": str(self._lab.folder / "ansible"),
        }
