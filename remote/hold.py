"""Hold a sandboxed run still while something outside replaces files that are hidden from it, and hide them again.

`useradd`, and packages that make accounts, rename a new /etc/shadow into place; a mount over the old one goes with it
(hidden.py), and CAP_DAC_READ_SEARCH would open the new one. While all processes of the run are stopped, none looks.
"""

from __future__ import annotations

import contextlib
import glob
import os
import subprocess
import time
from collections.abc import Iterator

import hidden
import layout
from units import told

_WAIT_S = 10
#: Stopped, stopped by a tracer, dead: states of proc_pid_stat(5) in which a process runs no code of its own.
_STILL = frozenset("TtZX")


class CannotHold(Exception):
    """The run has to end: it could see what it must not."""


@contextlib.contextmanager
def still(unit: str) -> Iterator[None]:
    """Raises CannotHold, before or after the block; then the processes stay stopped."""
    _stop(unit)
    try:
        yield
    finally:
        _hide_again(unit)
        _ask("kill", "--signal=CONT", "--", unit)


def _stop(unit: str) -> None:
    """Again and again, until also what was forked meanwhile has stopped: SIGSTOP cannot be caught."""
    folder = _ask("show", "--property=ControlGroup", "--value", "--", unit)
    files = [f"{root}{folder}/cgroup.procs" for root in ("/sys/fs/cgroup/systemd", "/sys/fs/cgroup")]
    deadline = time.monotonic() + _WAIT_S
    while time.monotonic() < deadline:
        _ask("kill", "--signal=STOP", "--", unit)
        before = _pids(files)
        if before and all(_is_still(pid) for pid in before) and _pids(files) == before:
            return
        time.sleep(0.01)
    raise CannotHold("the run cannot be held while accounts change")


def _pids(files: list[str]) -> set[int]:
    for path in files:
        with contextlib.suppress(OSError), open(path, encoding="ascii") as file:
            return set(map(int, file.read().split()))
    return set()


def _is_still(pid: int) -> bool:
    """All of its threads."""
    for path in glob.glob(f"/proc/{pid}/task/*/stat"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError), open(path, "rb") as file:
            if chr(file.read().rpartition(b") ")[2][0]) not in _STILL:
                return False
    return True


def _hide_again(unit: str) -> None:
    """In its mount namespace, where what it sees is what is there. Private, so that mounts do not beget mounts."""
    pid = _ask("show", "--property=MainPID", "--value", "--", unit)
    argv = ["nsenter", f"--mount=/proc/{pid}/ns/mnt", "--", "mount", "--bind", "--make-private", "/dev/null"]
    for path in (path for pattern in hidden.FILES for path in glob.glob(pattern)):
        with contextlib.suppress(FileNotFoundError):
            if os.path.samefile(path, f"/proc/{pid}/root{path}"):
                _run([*argv, path])


def _ask(*arguments: str) -> str:
    return _run(["systemctl", *arguments])


def _run(argv: list[str]) -> str:
    try:
        done = subprocess.run(argv, env=layout.ENVIRONMENT, capture_output=True, check=True, timeout=_WAIT_S)
    except (OSError, subprocess.SubprocessError) as error:
        raise CannotHold(f"the run cannot be held while accounts change: {told(error)}") from error
    return done.stdout.decode("utf-8", "replace").strip()
