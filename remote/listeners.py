"""Whether nginx can listen where its configuration says: `nginx -t` does not tell, and a reload fails without a word.

nginx tests with the ports of others as they are (ngx_open_listening_sockets lets EADDRINUSE pass in a test), and once
it runs it goes on with its old configuration when a new one cannot be bound. systemctl takes that for a success.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator

from serverflow_actions.kit.host import HostError
from units import run

_PROGRAM = "/usr/sbin/nginx"
_COMMENT = re.compile(r"^\s*#.*$", re.M)
_LISTEN = re.compile(r"(?:^|[;{}])\s*listen\s+([^\s;]+)([^;]*);", re.M)
#: Parameters of `listen` that make it UDP, as which a port has nothing to do with that of TCP.
_UDP = {"udp", "quic"}
_SOCKET = re.compile(r"^LISTEN +\d+ +\d+ +(\S+):(\d+) +\S+ *(.*)$", re.M)  # some of the kernel's are nobody's
_OWNER = re.compile(r'\("([^"]+)",pid=(\d+)')
_ANY = ("*", "0.0.0.0", "[::]")  # noqa: S104  (compared with, not bound)

#: Address as ss(8) writes it, and port.
Place = tuple[str, int]


def before(what: str) -> None:
    """Raises HostError, beginning with `what`, when another program has a port that nginx wants."""
    try:
        configured = run((_PROGRAM, "-T", "-q"), 60)
        sockets = run(("ss", "-ltnpH"), 60)
    except (OSError, subprocess.TimeoutExpired):
        return  # without iproute2 nobody can say
    if configured.returncode or sockets.returncode:
        return
    found = taken(configured.stdout.decode("utf-8", "replace"), sockets.stdout.decode("utf-8", "replace"))
    if found:
        raise HostError(f"{what}: {'; '.join(found)}, and nginx cannot listen there too")


def taken(configuration: str, sockets: str) -> list[str]:
    """Sentences: who has a place that the configuration (`nginx -T`) names, by what `ss -ltnpH` says."""
    wanted = set(_wanted(configuration))
    found = []
    if not _OWNER.search(sockets):
        return []  # it tells nobody's: nginx itself may be among them
    for address, port, owners in _SOCKET.findall(sockets):
        names = dict(_OWNER.findall(owners))
        if "nginx" in names:
            continue
        if any(int(port) == other and _clash(mine, address) for mine, other in wanted):
            who = ", ".join(f"{name} (process {pid})" for name, pid in sorted(names.items()))
            found.append(f"port {port} belongs to {who or 'another program'}")
    return sorted(set(found))


def _wanted(configuration: str) -> Iterator[Place]:
    for place, options in _LISTEN.findall(_COMMENT.sub("", configuration)):
        if place.startswith("unix:") or _UDP.intersection(options.split()):
            continue
        address, colon, port = place.rpartition(":")
        if place.isdigit():
            yield "0.0.0.0", int(place)  # noqa: S104
        elif colon and port.isdigit():
            yield address, int(port)
        else:
            yield place, 80


def _clash(mine: str, theirs: str) -> bool:
    """ss(8) writes `*` for IPv6 and IPv4 at once."""
    if theirs == "*":
        return True
    if mine.startswith("[") != theirs.startswith("["):
        return False
    return mine in _ANY or theirs in _ANY or mine == theirs
