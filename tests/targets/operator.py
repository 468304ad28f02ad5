"""An operator at a terminal: the installed `sf` in a home of its own, run as a process."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .target import Target, call

SF = Path(sys.executable).with_name("sf")


@dataclass(frozen=True)
class Operator:
    """`home` holds keys and receipts, `fleet` is the fleet folder, `variables` are further ones in the environment."""

    home: Path
    fleet: Path
    variables: Mapping[str, str] = field(default_factory=dict)

    def run(
        self, *argv: str, input: str | None = None, check: bool = True, timeout: float = 120
    ) -> subprocess.CompletedProcess[str]:
        """Run `sf`; a failure shows all that it said."""
        done = subprocess.run(
            [SF, *argv],
            input=input,
            capture_output=True,
            text=True,
            env=self.environment(),
            cwd=self.fleet,
            timeout=timeout,
        )
        if check and done.returncode:
            raise AssertionError(f"sf {' '.join(argv)}: exit {done.returncode}\n{done.stdout}{done.stderr}")
        return done

    def json(self, *argv: str, check: bool = True) -> Any:
        """The JSON envelope of a command."""
        return json.loads(self.run("--json", *argv, check=check).stdout)

    def start(self, *argv: str) -> subprocess.Popen[str]:
        """Run `sf` in the background, to be interrupted or watched."""
        return subprocess.Popen(
            [SF, *argv],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=self.environment(),
            cwd=self.fleet,
        )

    def environment(self) -> dict[str, str]:
        """Nothing of the caller's: no fleet, no agent, no XDG folders."""
        return {"HOME": str(self.home), "PATH": os.environ["PATH"], "LANG": "C.UTF-8", "TERM": "dumb", **self.variables}

    def add(
        self, name: str, target: Target, *options: str, user: str = "root", check: bool = True
    ) -> subprocess.CompletedProcess[str]:
        """Enrol a target with its true fingerprint."""
        login = f"{user}@{target.host}:{target.port}"
        return self.run(
            "server",
            "add",
            name,
            login,
            "-i",
            str(target.admin_key),
            "--fingerprint",
            fingerprint(target),
            *options,
            check=check,
        )

    @property
    def private(self) -> Path:
        """The folder with this fleet's private keys."""
        (found,) = (self.home / ".local/share/serverflow").iterdir()
        return found

    @property
    def state(self) -> Path:
        """The folder with this fleet's receipts."""
        (found,) = (path for path in (self.home / ".local/state/serverflow").iterdir() if path.is_dir())
        return found


def new_operator(folder: Path) -> Operator:
    """An operator with a new fleet that has no servers."""
    home = folder / "home"
    home.mkdir()
    operator = Operator(home, folder)
    fleet = folder / "fleet"
    operator.run("init", str(fleet), "--name", "ana")
    return Operator(home, fleet)


def elsewhere(operator: Operator, folder: Path, **variables: str) -> Operator:
    """Another machine with a fresh clone of the fleet folder, that was told the root fingerprint."""
    folder.mkdir(parents=True)
    found = Operator(folder / "home", folder / "fleet", {"SF_ROOT": root_of(operator), **variables})
    found.home.mkdir()
    pull(found, operator)
    return found


def root_of(operator: Operator) -> str:
    """What the operator would read out to a new colleague."""
    return str(operator.json("trust", "show")["data"]["root"])


def pull(into: Operator, source: Operator) -> None:
    """What git does between two people, when nobody else has changed anything."""
    shutil.rmtree(into.fleet, ignore_errors=True)
    shutil.copytree(source.fleet, into.fleet)


def join(operator: Operator, folder: Path, name: str, *options: str, offer: tuple[str, ...] = ()) -> Operator:
    """A colleague makes keys and an invitation, and the operator adds them."""
    colleague = elsewhere(operator, folder)
    made = colleague.json("key", "invitation", "--name", name, *offer)["data"]
    (folder / "invitation").write_text(made["invitation"])
    operator.run(
        "key", "add", str(folder / "invitation"), "--fingerprint", made["fingerprint"], "--yes", *offer, *options
    )
    pull(colleague, operator)
    return colleague


def fingerprint(target: Target) -> str:
    """As the provider's console would show it."""
    said = target.run("ssh-keygen", "-lf", "/etc/ssh/ssh_host_ed25519_key.pub").stdout
    found = re.search(r"SHA256:\S+", said)
    assert found, said
    return found.group()


def checksum(target: Target) -> str:
    """Every path below / with type, mode, owner, size, time and content, but for what a server changes by itself and
    the short list of what a signed command may leave behind."""
    skipped = [
        "proc",
        "sys",
        "dev",
        "run",
        "tmp",
        "var/log",
        "var/lib/serverflow/receipts.chain",
        "var/lib/serverflow/receipts.chain.lock",
        "var/lib/systemd",
        "var/cache/ldconfig",
    ]
    prune = " -o ".join(f"-path /{path}" for path in skipped)
    script = (
        f"find / -xdev \\( {prune} \\) -prune -o -printf '%p %y %m %u:%g %s %l\\n' | sort;"
        f"find / -xdev \\( {prune} \\) -prune -o -type f -print0 | sort -z | xargs -0 sha256sum"
    )
    return call("docker", "exec", target.container, "sh", "-c", script).stdout


def eventually(condition: Any, what: str, timeout: float = 20) -> None:
    """Wait for something that happens elsewhere. Raises AssertionError when it does not."""
    deadline = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"it did not happen within {timeout:g} s: {what}")
        time.sleep(0.1)
