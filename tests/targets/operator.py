"""An operator at a terminal: the installed `sf` in a home of its own, run as a process."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .target import Target, call

SF = Path(sys.executable).with_name("sf")


@dataclass(frozen=True)
class Operator:
    """`home` holds keys and receipts, `fleet` is the fleet folder."""

    home: Path
    fleet: Path

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
        return {"HOME": str(self.home), "PATH": os.environ["PATH"], "LANG": "C.UTF-8", "TERM": "dumb"}

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
