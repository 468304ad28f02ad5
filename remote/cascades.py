"""Values of the kernel that change with another one: a safe change keeps these as well.

Documentation/networking/ip-sysctl.rst and Documentation/admin-guide/sysctl/vm.rst of Linux; net/ipv4/devinet.c and
net/core/neighbour.c.
"""

from __future__ import annotations

import glob
import re
from collections.abc import Iterable

_NET = "/proc/sys/net/ipv4"
_FORWARDING = (f"{_NET}/ip_forward", f"{_NET}/conf/all/forwarding")
_PAIRS = {
    # One of the two is 0.
    "/proc/sys/vm/dirty_ratio": ["/proc/sys/vm/dirty_bytes"],
    "/proc/sys/vm/dirty_background_ratio": ["/proc/sys/vm/dirty_background_bytes"],
    # A router does not listen to redirects.
    **{path: [*_FORWARDING, f"{_NET}/conf/all/accept_redirects"] for path in _FORWARDING},
}
_OF_ALL = re.compile(r"(/proc/sys/net/ipv[46]/(?:conf|neigh))/(?:all|default)/([^/]+)\Z")


def expand(paths: Iterable[str]) -> list[str]:
    """With what changes along: the partner of a value, and each interface's where `all` or `default` is set.

    They are put back from the last to the first: those that change others come last.
    """
    found = dict.fromkeys(each for path in paths for each in [path, *_PAIRS.get(path, ())])
    return sorted(dict.fromkeys(each for path in found for each in [path, *_of_interfaces(path)]), key=_rank)


def _of_interfaces(path: str) -> list[str]:
    match = _OF_ALL.match(path)
    return sorted(glob.glob(f"{match.group(1)}/*/{glob.escape(match.group(2))}")) if match else []


def _rank(path: str) -> int:
    match = _OF_ALL.match(path)
    if path in _FORWARDING:
        return 3
    return 0 if not match else 2 if "/all/" in path else 1
