"""Who listens on this server: somebody else where nginx would, which is refused; nobody where a route leads, which is
said. Both before anything is changed.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING, Union

from ..kit import Probe, Refused
from ..kit.probe import HostError
from ._nginx import UNIT
from ._reading import Found

if TYPE_CHECKING:
    from ipaddress import IPv4Address, IPv6Address

    Address = Union[IPv4Address, IPv6Address]

#: proc(5): sockets of TCP; a state of 0A is LISTEN. A sandbox without network sees none, and the broker looks again
#: before nginx is told anything (remote/listeners.py).
_TABLES = ("/proc/net/tcp", "/proc/net/tcp6")
_LISTEN = "0A"
#: What usually has these ports, and what to do about it.
_KNOWN = (
    "apache2.service", "caddy.service", "lighttpd.service", "haproxy.service", "traefik.service", "varnish.service",
    "docker.service", "podman.service",
)  # fmt: skip
_RUNNING = ("active", "reloading", "activating")


def require_free(probe: Probe, wanted: Iterable[int], found: Found) -> None:
    """Raises Refused when another program has one of the ports."""
    own: set[int] = set()
    if probe.unit(UNIT).active in _RUNNING:
        own = {port for server in found.servers for port in server.listens}
    taken = sorted((set(wanted) & {port for _, port in _listening(probe)}) - own)
    if taken:
        ports = " and ".join(map(str, taken))
        raise Refused(f"port {ports} is taken by another program, so nginx could not listen there. {_suspects(probe)}")


def unheard(probe: Probe, places: Iterable[str]) -> list[str]:
    """Those of these places, HOST:PORT, that are on this server and where nobody seems to listen: a container may be
    reached without a listener, where Docker has no userland-proxy. [] when nobody listens at all: then this process
    does not see who does.
    """
    from ipaddress import ip_address

    there = [(ip_address(address), port) for address, port in _listening(probe)]
    found = []
    for place in places if there else ():
        host, _, port = place.rpartition(":")
        address = ip_address(host.strip("[]"))
        if address.is_loopback and not any(int(port) == at and _hears(each, address) for each, at in there):
            found.append(place)
    return found


def _hears(listener: Address, called: Address) -> bool:
    """An IPv6 socket for all addresses takes those of IPv4 too (ipv6(7)); the tables do not say of which this is not
    so.
    """
    listener = getattr(listener, "ipv4_mapped", None) or listener
    return listener == called or (listener.is_unspecified and listener.version >= called.version)


def _listening(probe: Probe) -> set[tuple[bytes, int]]:
    """The address and the port of each socket that listens."""
    found = set()
    for table in _TABLES:
        try:
            text = (probe.read(table) or b"").decode("ascii", "replace")
        except HostError:
            continue
        for line in text.splitlines()[1:]:
            words = line.split()
            if len(words) > 3 and words[3] == _LISTEN:
                address, _, port = words[1].rpartition(":")
                found.add((_in_network_order(address), int(port, 16)))
    return found


def _in_network_order(address: str) -> bytes:
    """The kernel prints each 32 bits as the machine has them."""
    pieces = (address[at : at + 8] for at in range(0, len(address), 8))
    return b"".join(int(each, 16).to_bytes(4, sys.byteorder) for each in pieces)


def _suspects(probe: Probe) -> str:
    running = [name for name in _KNOWN if probe.unit(name).active in _RUNNING]
    if not running:
        return "`ss -ltnp` on the server says by which"
    advice = "stop and disable it, or move it to another port"
    if "docker.service" in running:
        advice += " (of Docker: whatever container publishes the port)"
    return f"{', '.join(running)} runs there: {advice}"
