"""What a route is made of, as text: host names, where it leads to, paths, and how many requests it lets through.

These values end up in nginx's configuration, where `;`, `{`, quotes, `$`, `\\` and blanks mean something. None of the
grammars lets one of them through, so nothing has to be escaped.
"""

from __future__ import annotations

import re
from typing import Any, NamedTuple

from . import grammar
from .powerdns import API_PORT

#: What a folder that is served lies below: the rest of a server is nobody's business.
SERVED = ("/srv/", "/var/www/")
#: Before the name of whoever is ready: no name of an app has a colon.
PAGE = "page:"

#: Metadata of clouds that are not link-local: Alibaba's, Azure's, Amazon's, Google's and Scaleway's.
_CLOUDS = ("100.100.100.200", "168.63.129.16", "fd00:ec2::254", "fd20:ce::254", "fd00:42::42")
#: Container engines and the like: whoever may talk to their sockets is root.
_ENGINES = {
    "buildkit", "containerd", "cri-dockerd", "crio", "docker", "dockershim", "incus", "libvirt", "lxd", "podman",
}  # fmt: skip

_PATH = re.compile(r"(?:/[A-Za-z0-9_@+~-][A-Za-z0-9._@+~-]*)+\Z", re.ASCII)
_PREFIX = re.compile(r"(?:/[A-Za-z0-9_~-][A-Za-z0-9._~-]*)+/?\Z", re.ASCII)
_RATE = re.compile(r"([1-9][0-9]{0,4})/([sm])\Z", re.ASCII)
#: sockaddr_un(7) has 108 bytes, the last of which is NUL.
_LONGEST_SOCKET = 107
_LONGEST_PREFIX = 200


class Target(NamedTuple):
    """Where requests go. `kind` is proxy (`value` is HOST:PORT), socket, folder, app, or page (`value` is whose)."""

    kind: str
    value: str


def host(raw: Any) -> str:
    """A host name, or `*.` and one: any name below it. Raises ValueError."""
    if isinstance(raw, str) and raw.startswith("*."):
        if "." not in raw[2:]:
            raise ValueError(f"{raw[:60]!a} would take all names below a top-level domain")
        return f"*.{grammar.hostname(raw[2:])}"
    return grammar.hostname(raw)


def takes(name: str, host: str) -> bool:
    """Whether requests for a host are taken by a route of this name: `*.` stands for all below."""
    return host == name or (name.startswith("*.") and host.endswith(name[1:]))


def target(raw: Any) -> str:
    """Where a route leads to, in its usual form; see `target_of`. Raises ValueError."""
    found = target_of(raw)
    if found.kind == "proxy" and found.value.startswith("127.0.0.1:"):
        return found.value.rpartition(":")[2]
    return {"socket": "unix:", "page": PAGE}.get(found.kind, "") + found.value


def target_of(raw: Any) -> Target:
    """`3000` is a port of this server, `10.0.0.5:3000` another one's, `unix:/run/shop.sock` a socket,
    `/srv/shop/public` a folder, `shop` an app, `page:web1` a page that says that web1 is ready. Raises ValueError.

    No host names: nginx would not start while one of them cannot be resolved, as after a power cut.
    """
    if not isinstance(raw, str) or not raw.isascii() or not raw.isprintable():
        raise ValueError(f"{raw if isinstance(raw, int) else ascii(raw)[:60]} is not where a route can lead to")
    if raw.isdigit():
        return Target("proxy", _place(f"localhost:{raw}"))
    if raw.startswith("unix:"):
        return Target("socket", _socket(raw[len("unix:") :]))
    if raw.startswith(PAGE):
        return Target("page", grammar.label(raw[len(PAGE) :]))
    if raw.startswith("/"):
        return Target("folder", _folder(raw))
    if ":" in raw:
        return Target("proxy", _place(raw))
    return Target("app", grammar.name(raw))


def _place(raw: str) -> str:
    place, _, port = raw.rpartition(":")
    if place.startswith("[") and place.endswith("]") and ":" in place:
        place = place[1:-1]
    elif ":" in place:
        raise ValueError(f"{raw[:60]!a}: an IPv6 address stands in brackets, [fd00::1]:3000")
    address, number = "127.0.0.1" if place == "localhost" else grammar.address(place), grammar.port(port)
    _check_reach(address, number)
    return f"[{address}]:{number}" if ":" in address else f"{address}:{number}"


def _check_reach(address: str, port: int) -> None:
    """Raises ValueError for what is no server, and for what answers to this server alone because it asks."""
    from ipaddress import ip_address

    found = ip_address(address)
    if getattr(found, "ipv4_mapped", None):
        raise ValueError(f"{address} is an address of IPv4, and is written like one")
    if found.is_unspecified or found.is_multicast:
        raise ValueError(f"{address} is the address of no server; a port of this one is written {port}")
    if found.is_link_local or address in _CLOUDS:
        raise ValueError(f"{address} is where clouds tell a server its credentials: that is for nobody outside")
    if found.is_loopback and port == API_PORT:
        raise ValueError(f"port {port} is where PowerDNS takes orders: that is for nobody outside")


def _socket(raw: str) -> str:
    if len(raw) > _LONGEST_SOCKET or not _PATH.match(raw) or not raw.startswith(("/run/", "/srv/", "/var/")):
        raise ValueError(f"{raw[:60]!a} is not a socket below /run, /srv or /var")
    if not raw.startswith("/srv/") and _ENGINES & {part.partition(".")[0] for part in raw.split("/")}:
        raise ValueError(f"{raw} takes orders as root: that is for nobody outside")
    return raw


def _folder(raw: str) -> str:
    folder = raw.rstrip("/")
    if len(folder) > 255 or not _PATH.match(folder) or not folder.startswith(SERVED):
        raise ValueError(f"{raw[:60]!a} is not a folder below /srv or /var/www, without hidden parts")
    return folder


def location(raw: Any) -> str:
    """`PREFIX TARGET`, as `/api 3001`: what begins with this path goes elsewhere. Raises ValueError."""
    prefix, to = split_location(raw)
    return f"{prefix} {to}"


def split_location(raw: Any) -> tuple[str, str]:
    """The prefix without a slash at its end, and the target. Raises ValueError."""
    words = raw.split(" ") if isinstance(raw, str) else []
    if len(words) != 2 or len(words[0]) > _LONGEST_PREFIX or not _PREFIX.match(words[0]):
        raise ValueError(f"{ascii(raw)[:60]} is not a path and where it leads to, as `/api 3001`")
    return words[0].rstrip("/"), target(words[1])


def rate(raw: Any) -> str:
    """Requests that one address may make, `10/s` or `600/m`. Raises ValueError."""
    if not isinstance(raw, str) or not _RATE.match(raw):
        raise ValueError(f"{ascii(raw)[:60]} is not a rate such as 10/s or 600/m")
    return raw
