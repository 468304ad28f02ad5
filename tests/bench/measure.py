"""Run commands one after the other and in turns, and take medians: what else the machine does then hits all alike."""

from __future__ import annotations

import ctypes
import os
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

PR_SET_CHILD_SUBREAPER = 36
TIMEOUT_S = 180


@dataclass(frozen=True)
class Command:
    """A program to measure. `verify` says of its standard output whether it did what all the others did."""

    name: str
    argv: Sequence[str]
    env: Mapping[str, str] = field(default_factory=dict)
    cwd: Path = Path("/")
    verify: Callable[[str], bool] = lambda _: True


@dataclass(frozen=True)
class Run:
    """One run: seconds of wall time and of CPU here and on the servers; the largest process's memory in MB."""

    wall: float
    client: float
    server: float
    memory: float


def adopt_orphans() -> None:
    """Processes that a command leaves behind (OpenSSH's shared connections) become ours: their CPU time counts too."""
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def run(command: Command, server_cpu: Callable[[], float]) -> Run:
    """Run it once. Raises RuntimeError when it fails or its result is not what it must be."""
    before = server_cpu()
    started = time.perf_counter()
    with subprocess.Popen(
        command.argv,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=dict(command.env),
        cwd=command.cwd,
    ) as process:
        watch = signal.signal(signal.SIGALRM, lambda *_: process.kill())
        signal.alarm(TIMEOUT_S)
        assert process.stdout
        said = process.stdout.read()
        _, status, used = os.wait4(process.pid, 0)
        wall = time.perf_counter() - started
        signal.alarm(0)
        signal.signal(signal.SIGALRM, watch)
        process.returncode = os.waitstatus_to_exitcode(status)
    client = used.ru_utime + used.ru_stime + _reap_orphans()
    if process.returncode or not command.verify(said):
        raise RuntimeError(f"{command.name}: exit {process.returncode}, or not the expected result:\n{said[-2000:]}")
    return Run(wall, client, server_cpu() - before, used.ru_maxrss / 1024)


def _reap_orphans() -> float:
    """End what was left behind; its CPU time."""
    children = Path(f"/proc/self/task/{os.getpid()}/children")
    total = 0.0
    while pids := children.read_text().split():
        for pid in map(int, pids):
            with suppress(ProcessLookupError, ChildProcessError):
                os.kill(pid, signal.SIGTERM)
                used = os.wait4(pid, 0)[2]
                total += used.ru_utime + used.ru_stime
    return total


def in_turns(commands: Sequence[Command], rounds: int, server_cpu: Callable[[], float] = lambda: 0.0) -> dict[str, Run]:
    """A B C, A B C, …: medians for each. The first round warms the caches and does not count."""
    runs: dict[str, list[Run]] = {command.name: [] for command in commands}
    for number in range(rounds + 1):
        for command in commands:
            one = run(command, server_cpu)
            if number:
                runs[command.name].append(one)
            print(".", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    return {name: _median(many) for name, many in runs.items()}


def _median(runs: Sequence[Run]) -> Run:
    columns = zip(*((one.wall, one.client, one.server, one.memory) for one in runs), strict=True)
    return Run(*map(statistics.median, columns))


def table(title: str, results: Mapping[str, Run], base: str, *, servers: bool = True) -> None:
    """Print a Markdown table; the ratios are of wall and client CPU to those of `base`."""
    head = ["", "wall", f"× {base}", "client CPU", f"× {base}", *(["server CPU"] if servers else []), "peak memory"]
    print(f"\n### {title}\n\n| {' | '.join(head)} |\n|{' --- |' * len(head)}")
    for name, one in results.items():
        wall, client = one.wall / results[base].wall, one.client / results[base].client
        cells = [name, _seconds(one.wall), f"{wall:.2f}", _seconds(one.client), f"{client:.2f}"]
        cells += [_seconds(one.server)] if servers else []
        print(f"| {' | '.join([*cells, f'{one.memory:.0f} MB'])} |", flush=True)


def _seconds(value: float) -> str:
    return f"{value * 1000:.0f} ms" if value < 1 else f"{value:.2f} s"
