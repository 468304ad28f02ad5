"""Benchmarks against OpenSSH, pyinfra, fabric and Ansible. They print medians and ratios; nothing is asserted.

    .venv/bin/python -m tests.bench                     all: about ten minutes, on a machine that does nothing else
    .venv/bin/python -m tests.bench --only start one    some: start one ten hundred facts server
    .venv/bin/python -m tests.bench --rounds 5

Needs a Docker engine (tests/targets/engine.sh). Installs the peers into .cache/bench-venv, once.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path

from . import peers, phases
from .lab import Lab, lab
from .measure import Command, Run, adopt_orphans, in_turns, table

PARTS = ("start", "one", "ten", "hundred", "facts", "server")
BIN = Path(sys.executable).parent


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="tests.bench", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS, help="parts to run")
    parser.add_argument("--rounds", type=int, default=5, help="runs that count, for each command")
    parser.add_argument("--servers", type=int, default=10, help="real servers behind the 100 endpoints")
    options = parser.parse_args()
    peers.prepare()
    adopt_orphans()
    print(f"{os.cpu_count()} CPUs, load {os.getloadavg()[0]:.1f}; {peers.versions()}", flush=True)
    with tempfile.TemporaryDirectory(prefix="sf-bench-") as folder, lab(Path(folder), options.servers) as found:
        tools = peers.Peers(found)
        for part in (part for part in PARTS if part in options.only):
            measure(part, found, tools, options.rounds)
    print(f"\nload at the end: {os.getloadavg()[0]:.1f}")


def measure(part: str, found: Lab, tools: peers.Peers, rounds: int) -> None:
    """Run one part and print its table."""
    if part == "start":
        table("Start-up", in_turns(start_up(found), rounds * 3), "python -c pass", servers=False)
    elif part == "facts":
        results = in_turns(tools.facts_and_file(), rounds, found.server_cpu)
        table(f"Facts and a 1 KB file, servers: {len(found.targets)}", results, "sf")
    elif part == "server":
        phases.report(found, rounds)
    else:
        count = {"one": 1, "ten": 10, "hundred": 100}[part]
        results = in_turns(tools.hostnames(count), rounds * (2 if count == 1 else 1), found.server_cpu)
        table(f"hostname, {count} endpoint{'s' * (count > 1)}, cold", results, "ssh" if count == 1 else "pyinfra")
        if count == 100:
            print_growth(in_turns([tools.sf(10)], rounds)["sf"], results["sf"])


def start_up(found: Lab) -> list[Command]:
    operator = found.operator
    programs = {
        "python -c pass": [str(BIN / "python"), "-c", "pass"],
        **{f"sf {line}": [str(BIN / "sf"), *line.split()] for line in ("--version", "--help", "server list")},
    }
    return [Command(name, argv, operator.environment(), operator.fleet) for name, argv in programs.items()]


def print_growth(ten: Run, hundred: Run) -> None:
    growth = (hundred.memory - ten.memory) / 90
    print(f"\nsf's memory: {ten.memory:.0f} MB at 10 endpoints, {hundred.memory:.0f} MB at 100: {growth:.2f} MB each")


if __name__ == "__main__":
    main()
