"""Ask name servers, by dig(1): where a challenge belongs, and whether every authoritative server has it yet.

The authority asks any of them. So each address of each name server is asked itself, over UDP and over TCP, until all
have the record: nothing is slept for.
"""

from __future__ import annotations

import re
import socket
import subprocess
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

from certdns import Failed

#: For all of them; a secondary hears of it by NOTIFY within seconds, or when it looks by itself.
WAIT_S = 300
_SHORTEST_S, _LONGEST_S = 0.25, 5.0
_MOST_LINKS = 8
_NAME = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9._-]*[A-Za-z0-9])?\.?\Z")
_TEXT = re.compile(r'"((?:[^"\\]|\\.)*)"')

#: Runs dig with these arguments, and returns what it prints.
Dig = Callable[[Sequence[str]], str]


class Server(NamedTuple):
    """One address of a name server."""

    name: str
    address: str

    def __str__(self) -> str:
        return f"{self.name} ({self.address})"


def dig(arguments: Sequence[str]) -> str:
    """ "" where nobody answers."""
    argv = ["dig", "-r", "+time=3", "+tries=1", "+nocookie", "+noall", "+answer", *arguments]
    try:
        done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, check=False, timeout=10)
    except FileNotFoundError:
        raise Failed("dig is missing (package bind9-dnsutils)") from None
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.decode("utf-8", "replace") if done.returncode == 0 else ""


def _values(said: str, kind: str) -> list[str]:
    """Of the records of this type in dig's answer, in their presentation format."""
    rows = (line.split(None, 4) for line in said.splitlines() if not line.startswith(";"))
    return [row[4].strip() for row in rows if len(row) == 5 and row[3] == kind]


def _plain(name: str) -> str:
    if len(name) > 254 or not _NAME.match(name):
        raise Failed(f"{name[:100]!a} is a name that no name server should give")
    return name.rstrip(".").lower()


def owner(name: str, zone: str, ask: Dig = dig) -> str:
    """Where CNAMEs lead to from there (RFC 8555, section 8.4). Raises Failed when that is not in the zone."""
    seen = [_plain(name)]
    while len(seen) <= _MOST_LINKS:
        targets = _values(ask([f"{seen[-1]}.", "CNAME"]), "CNAME")
        if not targets:
            break
        seen.append(_plain(targets[0]))
    else:
        raise Failed(f"from {seen[0]} CNAMEs lead on and on")
    if seen[-1] != zone and not seen[-1].endswith(f".{zone}"):
        way = " → ".join(seen) if len(seen) > 1 else f"{seen[0]} has no CNAME"
        raise Failed(f"{way}: that is not in the zone {zone}, which this server may change")
    return seen[-1]


def authoritative(zone: str, ask: Dig = dig) -> list[Server]:
    """Every address of every name server of a zone that this machine has a way to. Raises Failed without any."""
    names = sorted({_plain(each) for each in _values(ask([f"{zone}.", "NS"]), "NS")})
    if not names:
        raise Failed(f"DNS shows no name servers of {zone}: it is not delegated, or the resolver does not answer")
    found: list[Server] = []
    unreachable: list[Server] = []
    for name in names:
        for kind in ("A", "AAAA"):
            for address in _values(ask([f"{name}.", kind]), kind):
                (found if has_route(address) else unreachable).append(Server(name, address))
    silent = sorted(set(names) - {each.name for each in (*found, *unreachable)})
    if silent:
        raise Failed(f"{', '.join(silent)} should serve {zone}, and has no address")
    if not found:
        raise Failed(f"this machine has no way to the name servers of {zone}: {', '.join(map(str, unreachable))}")
    return found


def has_route(address: str) -> bool:
    """Whether there is a way to it at all: a machine without IPv6 asks over IPv4 alone. Sends nothing."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((address, 53))
    except OSError:
        return False
    return True


def serves(server: Server, by: str, name: str, value: str, ask: Dig = dig) -> bool:
    said = ask([f"@{server.address}", "+norecurse", "+notcp" if by == "UDP" else "+tcp", f"{name}.", "TXT"])
    return any("".join(_TEXT.findall(each)) == value for each in _values(said, "TXT"))


def wait(zone: str, name: str, value: str, seconds: float = WAIT_S, ask: Dig = dig) -> None:
    """Until every authoritative server has it. Raises Failed with those that do not."""
    deadline = time.monotonic() + seconds
    left = [(server, by) for server in authoritative(zone, ask) for by in ("UDP", "TCP")]
    pause = _SHORTEST_S
    while left:
        left = [(server, by) for server, by in left if not serves(server, by, name, value, ask)]
        if left and time.monotonic() >= deadline:
            listed = ", ".join(f"{server} by {by}" for server, by in left)
            raise Failed(f"after {seconds:g} s {name} is not served with its new value by {listed}")
        if left:
            time.sleep(pause)
            pause = min(pause * 1.5, _LONGEST_S)
