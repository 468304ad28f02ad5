"""Keys, passwords and copies of them, where Debian's packages keep them: what no sandbox shows. No action reads these.

A mount over a file goes when somebody outside renames another file to its name (mount_namespaces(7)), as `useradd` and
key rotations do. So files that are replaced in a server's ordinary life are hidden with the folder around them.
"""

from __future__ import annotations

import os
import re
import stat

import layout

#: Covered as a whole, for reads.
FOLDERS = (
    layout.STATE, layout.RUN, "/root", "/etc/ssl/private", "/etc/letsencrypt", "/etc/wireguard", "/etc/openvpn",
    "/etc/ipsec.d/private", "/etc/swanctl/private", "/etc/wpa_supplicant", "/etc/ppp", "/etc/apt/auth.conf.d",
    "/etc/NetworkManager/system-connections", "/etc/pki/tls/private", "/etc/credstore", "/etc/credstore.encrypted",
    "/var/backups", "/var/lib/private", "/run/credentials", layout.CERT_VERSIONS,
)  # fmt: skip
#: Covered one by one: their folders are needed.
FILES = (
    "/etc/shadow", "/etc/gshadow", "/etc/shadow?", "/etc/gshadow?", "/etc/krb5.keytab",
    "/etc/ipsec.secrets", "/etc/apt/auth.conf", "/etc/mysql/debian.cnf", "/var/lib/systemd/credential.secret",
)  # fmt: skip
#: Of these only what everyone may read is there: host keys, old passwords, and whatever they are written to first.
SIFTED = ("/etc/ssh", "/etc/security")

_FILES_SHOWN = 200
_PLAIN = re.compile(r"[A-Za-z0-9._/@+-]+")


def shown(folder: str) -> list[str]:
    """The plain files in a sifted folder that everyone may read. A file that comes later is not there."""
    found = []
    for parent, _, names in os.walk(folder):
        for name in sorted(names):
            path = f"{parent}/{name}"
            status = os.lstat(path)
            if not _PLAIN.fullmatch(path):
                continue  # the same list goes into units' properties
            if stat.S_ISREG(status.st_mode) and status.st_mode & stat.S_IROTH:
                found.append(path)
    return found[:_FILES_SHOWN]
