"""The addresses of this machine, as the kernel tells them in proc(5): no socket is needed, and none can be had in a
sandbox.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ipaddress import IPv4Address, IPv4Network, IPv6Address

#: Leaves of the routing trie are two lines: the address, then what it is.
_V4 = re.compile(r"\|-- (\S+)\n\s+/32 host LOCAL")
#: Address, interface number, prefix, scope, flags, name; hexadecimal.
_V6 = re.compile(r"^([0-9a-f]{32}) [0-9a-f]+ [0-9a-f]+ ([0-9a-f]+) ([0-9a-f]+) +(\S+)$", re.M)
#: Interface, destination, no gateway, flags, three numbers, and the mask; in the byte order of the machine.
_ROUTE = re.compile(r"^(\S+)\t([0-9A-F]{8})\t0{8}\t[0-9A-F]{4}(?:\t[0-9]+){3}\t([0-9A-F]{8})\t", re.M)
#: Bridges to containers and virtual machines, as Docker, libvirt, LXD, Incus, Podman and Kubernetes call theirs. Nobody
#: else comes that way, and where one has a name server of its own port 53 is taken. br-lan is somebody's network.
_INNER = re.compile(r"(?:docker|virbr|lxdbr|lxcbr|incusbr|podman|cni|veth)[^/\s]*\Z|br-[0-9a-f]{12}\Z", re.ASCII)
#: IFA_F_TEMPORARY in linux/if_addr.h: it is replaced every day (RFC 8981).
_TEMPORARY = 0x01
_LINK_SCOPE = 0x20


def own() -> list[str]:
    """Those that others may reach, IPv4 first: no loopback, link-local or temporary ones, and none of bridges to
    containers and virtual machines.
    """
    return in_tables(*map(_text, ("/proc/net/fib_trie", "/proc/net/if_inet6", "/proc/net/route")))


def in_tables(trie: str, inet6: str, routes: str) -> list[str]:
    """The same, out of the text of fib_trie, if_inet6 and route in /proc/net."""
    from ipaddress import ip_address

    networks = _networks(routes)
    found4 = sorted({ip_address(each) for each in _V4.findall(trie)}, key=int)
    found = [each for each in found4 if not _is_inner(each, networks)]
    found6 = sorted({ip_address(bytes.fromhex(each)) for each in _lasting(inet6)}, key=int)
    return [str(each) for each in (*found, *found6) if not each.is_loopback and not each.is_link_local]


def _networks(routes: str) -> list[tuple[IPv4Network, str]]:
    """Those that this machine is itself in, the narrowest first, with the interface."""
    from ipaddress import IPv4Address, IPv4Network

    found = []
    for link, *place in _ROUTE.findall(routes):
        network, mask = (IPv4Address(int(each, 16).to_bytes(4, sys.byteorder)) for each in place)
        found.append((IPv4Network(f"{network}/{mask}"), link))
    return sorted(found, key=lambda each: -each[0].prefixlen)


def _is_inner(address: IPv4Address | IPv6Address, networks: Sequence[tuple[IPv4Network, str]]) -> bool:
    """The trie has no interfaces, but the network that an address lies in does."""
    link = next((link for network, link in networks if address in network), "")
    return bool(_INNER.match(link))


def _lasting(inet6: str) -> Iterator[str]:
    for text, scope, flags, link in _V6.findall(inet6):
        if int(scope, 16) != _LINK_SCOPE and not int(flags, 16) & _TEMPORARY and not _INNER.match(link):
            yield text


def _text(path: str) -> str:
    from pathlib import Path

    try:
        return Path(path).read_text(encoding="ascii")
    except OSError:
        return ""  # a kernel without IPv6
