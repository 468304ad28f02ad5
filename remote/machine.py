"""The rare verbs on the machine itself, which the broker carries out for actions that declare them."""

from __future__ import annotations

import contextlib
import os
import re
import secrets
from collections.abc import Sequence

import store
from serverflow_actions.kit import certunits, firewall, watch
from serverflow_actions.kit.host import HostError


def set_hostname(name: str) -> None:
    """In force at once, kept in hostname(5), and resolvable: sudo complains about a host that cannot find itself.

    The files are written in place: in containers they are bind mounts, which cannot be replaced.
    """
    with open("/proc/sys/kernel/hostname", encoding="ascii") as file:
        old = file.read().strip()
    _in_place("/etc/hostname", name + "\n")
    with open("/etc/hosts", encoding="utf-8", errors="surrogateescape") as file:
        lines = file.read().splitlines()
    entry = f"127.0.1.1\t{name}" + (f" {name.split('.')[0]}" if "." in name else "")
    kept = [line for line in lines if not re.match(r"127\.0\.1\.1\s", line)]
    at = next((n + 1 for n, line in enumerate(kept) if re.match(r"127\.0\.0\.1\s", line)), 0)
    _in_place("/etc/hosts", "\n".join([*kept[:at], entry, *kept[at:]]) + "\n")
    try:
        import socket

        socket.sethostname(name)
    except OSError as error:
        raise HostError(
            f"the host name is kept for the next boot, but cannot be set now from {old}: {error.strerror}"
        ) from error


def set_timezone(zone: str) -> None:
    """localtime(5), and Debian's /etc/timezone where it exists. timedatectl would leave the second one stale."""
    if not os.path.isfile(f"/usr/share/zoneinfo/{zone}"):
        raise HostError(f"there is no time zone {zone}")
    temporary = f"/etc/.localtime.{secrets.token_hex(4)}"
    os.symlink(f"/usr/share/zoneinfo/{zone}", temporary)
    os.rename(temporary, "/etc/localtime")
    if os.path.exists("/etc/timezone"):
        _in_place("/etc/timezone", zone + "\n")


def set_firewall_unit(value: str) -> None:
    """The unit that loads the firewall's rules: its text is ours, and no sandbox can write it."""
    _set_units(value, ((firewall.UNIT_FILE, firewall.UNIT_TEXT),))


def set_watch_unit(value: str) -> None:
    """The service and the timer that look after jobs and alerts, likewise."""
    _set_units(value, watch.FILES)


def set_cert_unit(value: str) -> None:
    """The service and the timer that renew certificates, likewise."""
    _set_units(value, certunits.FILES)


def _set_units(value: str, files: Sequence[tuple[str, str]]) -> None:
    if value not in ("present", "absent"):
        raise HostError(f"a unit is present or absent, not {value!a}")
    for path, text in files:
        if value == "present":
            store.write_file(path, text.encode(), 0o644)
            continue
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)


def check_values_can_be_set() -> None:
    """Raises HostError where systemd-sysctl would say nothing and set nothing: it takes that for a container's wish."""
    if os.statvfs("/proc/sys/net").f_flag & os.ST_RDONLY:
        raise HostError("/proc/sys is read-only here, as containers have it: no value can be set")


def _in_place(path: str, text: str) -> None:
    with open(path, "r+" if os.path.exists(path) else "w", encoding="utf-8", errors="surrogateescape") as file:
        file.write(text)
        file.truncate()
        file.flush()
        os.fsync(file.fileno())
