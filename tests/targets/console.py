"""A console on a test server: commands as root, beside sshd, all of them over one `docker exec`. To start another one
for each costs ten times as much as most of the commands.
"""

from __future__ import annotations

import json
import subprocess
import threading
from collections.abc import Sequence
from contextlib import suppress

#: Runs on the server, on Python 3.9 or later: a line with a command comes in, a line with what became of it goes out.
_AGENT = r"""
import json, subprocess, sys

def answer(argv, said):
    given = {"stdin": subprocess.DEVNULL} if said is None else {"input": said.encode()}
    try:
        done = subprocess.run(argv, capture_output=True, start_new_session=True, **given)
    except OSError as error:
        return 127, "", "%s: %s\n" % (argv[0], error.strerror)
    code = done.returncode if done.returncode >= 0 else 128 - done.returncode  # killed: as a shell says it
    return code, done.stdout.decode(errors="surrogateescape"), done.stderr.decode(errors="surrogateescape")

for line in sys.stdin:
    print(json.dumps(answer(*json.loads(line))), flush=True)
"""
_GONE = 137, "", "the server went down\n"


class Console:
    """Opened when it is first used, and again after the server was down."""

    def __init__(self, container: str) -> None:
        self._container = container
        self._agent: subprocess.Popen[str] | None = None
        self._free = threading.Lock()

    def run(self, argv: Sequence[str], input: str | None) -> subprocess.CompletedProcess[str]:
        """Status 127 for a program that is not there, 137 when the server goes down meanwhile."""
        if not self._free.acquire(blocking=False):  # another thread's command is at work: one of its own
            return self._beside(argv, input)
        try:
            code, out, errors = self._ask(argv, input)
        except BaseException:
            self._close()  # what it would say next would be the answer to this
            raise
        finally:
            self._free.release()
        return subprocess.CompletedProcess([*argv], code, out, errors)

    def close(self) -> None:
        """What the server is asked next, it is asked anew: a frozen one would never answer."""
        with self._free:
            self._close()

    def _ask(self, argv: Sequence[str], input: str | None) -> tuple[int, str, str]:
        if self._agent is None or self._agent.poll() is not None:
            self._close()
            self._agent = subprocess.Popen(
                ["docker", "exec", "-i", self._container, "/usr/bin/python3", "-IS", "-c", _AGENT],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
            )
        assert self._agent.stdin and self._agent.stdout
        with suppress(BrokenPipeError):
            self._agent.stdin.write(json.dumps([argv, input]) + "\n")
            self._agent.stdin.flush()
            if line := self._agent.stdout.readline():
                code, out, errors = json.loads(line)
                return code, out, errors
        self._close()
        return _GONE

    def _close(self) -> None:
        if self._agent is not None:
            self._agent.kill()
            self._agent.wait()
            for pipe in self._agent.stdin, self._agent.stdout:
                with suppress(BrokenPipeError):
                    pipe.close()  # type: ignore[union-attr]  # both are pipes
            self._agent = None

    def _beside(self, argv: Sequence[str], input: str | None) -> subprocess.CompletedProcess[str]:
        options = [] if input is None else ["-i"]
        whole = ["docker", "exec", *options, self._container, *argv]
        return subprocess.run(whole, input=input, capture_output=True, text=True)
