"""The nginx of this server: its version and that of its OpenSSL, and what it was built without."""

from __future__ import annotations

import re
from typing import NamedTuple

from ..kit import Probe

PACKAGE = "nginx"
PROGRAM = "/usr/sbin/nginx"
UNIT = "nginx.service"

#: OpenSSL's library, newest first: Debian 13, 12 and 11.
_LIBRARIES = ("libssl3t64", "libssl3", "libssl1.1")


class Nginx(NamedTuple):
    """`version` and `openssl` are as far as the second or third number; (0,) is an unknown one, taken for old."""

    version: tuple[int, ...]
    openssl: tuple[int, ...]
    lacks: frozenset[str] = frozenset()
    ipv6: bool = False

    @property
    def has_http2_directive(self) -> bool:
        """`http2 on` is there since 1.25.1, and `listen … http2` is deprecated by it."""
        return self.version >= (1, 25, 1)

    @property
    def rejects_handshakes(self) -> bool:
        """`ssl_reject_handshake`, since 1.19.4."""
        return self.version >= (1, 19, 4)

    @property
    def has_post_quantum_groups(self) -> bool:
        """X25519MLKEM768, since OpenSSL 3.5. An older one refuses the whole list over a name that it does not know."""
        return self.openssl >= (3, 5)

    @property
    def renews_ticket_keys(self) -> bool:
        """Keys of TLS session tickets are replaced with those of the shared cache since 1.23.2."""
        return self.version >= (1, 23, 2)


def nginx_of(probe: Probe) -> Nginx:
    """The one that is installed, else the one that will be."""
    ipv6 = probe.stat("/proc/net/if_inet6") is not None
    if probe.stat(PROGRAM):
        said = probe.run([PROGRAM, "-V"])
        text = said.out + said.err
        openssl = re.search(r"running with OpenSSL (\S+)", text) or re.search(r"built with OpenSSL (\S+)", text)
        version = re.search(r"nginx version: \S+?/(\S+)", text)
        lacks = frozenset(re.findall(r"--without-(http_[a-z0-9_]+)_module", text))
        return Nginx(_numbers(version and version.group(1)), _numbers(openssl and openssl.group(1)), lacks, ipv6)
    library = next(filter(None, map(probe.package, _LIBRARIES)), "")
    return Nginx(_numbers(probe.candidate(PACKAGE)), _numbers(library), ipv6=ipv6)


def _numbers(version: str | None) -> tuple[int, ...]:
    """1.22.1-9+deb12u9 is (1, 22, 1)."""
    found = re.match(r"(?:[0-9]+:)?([0-9]+(?:\.[0-9]+)*)", version or "")
    return tuple(map(int, found.group(1).split("."))) if found else (0,)
