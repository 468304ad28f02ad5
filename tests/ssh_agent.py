"""A real ssh-agent for a test, apart from the developer's own. Its socket has a short path: 107 bytes are the most."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class SshAgent:
    """`socket` is for SSH_AUTH_SOCK."""

    folder: Path
    process: subprocess.Popen[str]

    @property
    def socket(self) -> str:
        return str(self.folder / "agent")

    def add(self, key: Path, *options: str, passphrase: str = "") -> None:
        """`ssh-add`; with "-c" the agent asks a person before each signature: see `answer`."""
        self._ssh_add(*options, str(key), says=passphrase)

    def remove(self, key: Path) -> None:
        self._ssh_add("-d", str(key))

    def lock(self) -> None:
        self._ssh_add("-x", says="word")

    def unlock(self) -> None:
        self._ssh_add("-X", says="word")

    def answer(self, *, yes: bool) -> None:
        """What the person says from now on."""
        program(self.folder / "confirm", "exit 0" if yes else "exit 1")

    def kill(self) -> None:
        """As a crash leaves it: the socket is there, and nobody behind it."""
        self.process.kill()
        self.process.wait()

    def _ssh_add(self, *argv: str, says: str = "") -> None:
        asking = program(self.folder / "askpass", f"printf '%s\\n' '{says}'")
        env = {
            "PATH": os.environ["PATH"],
            "SSH_AUTH_SOCK": self.socket,
            "SSH_ASKPASS": str(asking),
            "SSH_ASKPASS_REQUIRE": "force",
        }
        subprocess.run(["ssh-add", "-q", *argv], env=env, check=True, capture_output=True, stdin=subprocess.DEVNULL)


@contextmanager
def ssh_agent() -> Iterator[SshAgent]:
    """An empty agent that ends with the block."""
    with tempfile.TemporaryDirectory(prefix="sf-agent-") as name:
        folder = Path(name)
        env = {
            "PATH": os.environ["PATH"],
            "SSH_ASKPASS": str(folder / "confirm"),
            "SSH_ASKPASS_REQUIRE": "force",
            "DISPLAY": ":0",
        }
        argv = ["ssh-agent", "-D", "-a", str(folder / "agent")]
        with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, env=env) as process:
            assert process.stdout and "SSH_AUTH_SOCK" in process.stdout.readline()  # it listens now
            try:
                yield SshAgent(folder, process)
            finally:
                process.kill()


def program(path: Path, line: str) -> Path:
    """A one-line shell script."""
    path.write_text(f"#!/bin/sh\n{line}\n")
    path.chmod(0o700)
    return path


def key_file(path: Path, passphrase: str = "", kind: str = "ed25519") -> Path:
    """A key by ssh-keygen, and PATH.pub beside it. Few rounds: the strength of the passphrase is not tested."""
    subprocess.run(
        ["ssh-keygen", "-q", "-t", kind, "-a", "1", "-N", passphrase, "-C", path.name, "-f", path], check=True
    )
    return path
