"""What the tests of all areas ask of a command: its outcome on one server, and that a second run changes nothing."""

from __future__ import annotations

import json
import os
import pty
import subprocess
from typing import Any

from .operator import SF, Operator


def run(operator: Operator, *argv: str, on: str = "web1", exit: int = 0, input: str | None = None) -> dict[str, Any]:
    """One server's part of the answer. `argv` is the command without `--on` and without leave to go on."""
    end = argv.index("--") if "--" in argv else len(argv)
    done = operator.run("--json", *argv[:end], "--on", on, *argv[end:], input=input, check=False)
    assert done.returncode == exit, (
        f"sf {' '.join(argv)}: exit {done.returncode}, not {exit}\n{done.stdout}{done.stderr}"
    )
    (server,) = json.loads(done.stdout.splitlines()[-1])["servers"]
    found: dict[str, Any] = server
    return found


def changed(operator: Operator, *argv: str, on: str = "web1", input: str | None = None) -> list[str]:
    """What a command that has something to do did; run again it does nothing."""
    first = run(operator, *argv, on=on, input=input)
    assert first["outcome"] == "done", first
    again = run(operator, *argv, on=on, input=input)
    assert (again["outcome"], again["changes"]) == ("unchanged", []), again
    return told(first)


def planned(operator: Operator, *argv: str, on: str = "web1", input: str | None = None) -> list[str]:
    """What it would change."""
    return told(run(operator, *argv, "--plan", on=on, input=input))


def told(server: dict[str, Any]) -> list[str]:
    """Changes as `create file /etc/x`."""
    return [f"{change['verb']} {change['kind']} {change['name']}" for change in server["changes"]]


def refused(operator: Operator, *argv: str, on: str = "web1") -> str:
    """Why the server refused to carry a command out."""
    server = run(operator, *argv, on=on, exit=6)
    assert server["changes"] == []
    return str(server["error"]["message"])


class Asked:
    """`sf` at a terminal that waits for an answer to its question."""

    def __init__(self, operator: Operator, *argv: str) -> None:
        self._terminal, theirs = pty.openpty()
        self._process = subprocess.Popen(
            [SF, *argv],
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            env=operator.environment(),
            cwd=operator.fleet,
            start_new_session=True,
        )
        os.close(theirs)
        self.said = ""
        while "Go on?" not in self.said:
            piece = self._read()
            assert piece, f"it ended without a question:\n{self.said}"
            self.said += piece

    def answer(self, text: str) -> int:
        """The exit code, once it has ended."""
        os.write(self._terminal, f"{text}\n".encode())
        while piece := self._read():
            self.said += piece
        os.close(self._terminal)
        return self._process.wait(timeout=60)

    def _read(self) -> str:
        try:
            return os.read(self._terminal, 65536).decode("utf-8", "replace")
        except OSError:  # EIO: the other side is closed
            assert self._process.wait(timeout=60) is not None
            return ""
