"""What a service says of its own configuration: asked before it is told to read it, and after files were changed.

A program that is not installed has nothing to say. Root, outside the sandbox, as in a service's own start.
"""

from __future__ import annotations

import fnmatch
import os
import re
import subprocess
from collections.abc import Iterable, Iterator

import listeners
from serverflow_actions.kit.firewall import RULES
from serverflow_actions.kit.host import HostError
from units import run

Argv = tuple[str, ...]

_NGINX = ("/usr/sbin/nginx", "-t", "-q")
_SSHD = ("/usr/sbin/sshd", "-t")
_SUDO = ("/usr/sbin/visudo", "-c")
_NAMED = ("/usr/bin/named-checkconf", "-z")
_POSTFIX = ("/usr/sbin/postfix", "check")
_NFT = ("/usr/sbin/nft", "-c", "-f")
#: It sees whether files of certificates and keys are there, not whether they match.
_APACHE = ("/usr/sbin/apache2ctl", "-t")
#: As in its unit's own ExecReload; it loads certificates and keys.
_HAPROXY = ("/usr/sbin/haproxy", "-Ws", "-c", "-f", "/etc/haproxy/haproxy.cfg")
#: All is read to say one value; the files that settings name too, which is -x (doveconf(1)). -n would print all of it.
_DOVECOT = ("/usr/bin/doveconf", "-x", "protocols")
_UNITS: dict[str, Argv] = {
    "nginx.service": _NGINX,
    "apache2.service": _APACHE,
    "haproxy.service": _HAPROXY,
    "dovecot.service": _DOVECOT,
    "ssh.service": _SSHD,
    "sshd.service": _SSHD,
    "named.service": _NAMED,
    "bind9.service": _NAMED,
    "postfix.service": _POSTFIX,
    "serverflow-firewall.service": (*_NFT, RULES),
}
#: Each judges a whole configuration, of which a file is a part.
_WHOLE: dict[str, Argv] = {
    "/etc/nginx/*": _NGINX,
    "/etc/ssh/sshd_config*": _SSHD,
    "/etc/sudoers*": _SUDO,
    "/etc/bind/*": _NAMED,
    "/etc/postfix/*": _POSTFIX,
}
#: Each judges one file by itself, whose path comes last.
_ALONE: dict[str, Argv] = {
    "/etc/sudoers*": (*_SUDO, "-f"),
    RULES: _NFT,
}
_CLUSTER = re.compile(r"postgresql@([0-9]+)-([A-Za-z0-9_.]+)\.service\Z", re.ASCII)
_CLUSTER_FILE = re.compile(r"/etc/postgresql/([0-9]+)/([A-Za-z0-9_.]+)/", re.ASCII)
_UNIT_FILE = re.compile(r"/etc/systemd/system/(?:[^/]+\.d/)?[^/]+\.(?:service|socket|timer|conf)\Z")
#: Verbs after which a unit runs with what its files say now.
_READS = ("start", "restart", "reload", "try-restart")
_SAID = 1000


def before(verb: str, unit: str) -> None:
    """Raises HostError when the unit would not find its configuration in order: then it is left as it runs."""
    if verb in _READS:
        cluster = _CLUSTER.match(unit)
        for argv in filter(None, (_UNITS.get(unit), _postgres(*cluster.groups()) if cluster else None)):
            _ask(argv, f"{unit} was not told to {verb}")
        if unit == "nginx.service":
            listeners.before(f"{unit} was not told to {verb}")


def broken(paths: Iterable[str]) -> frozenset[Argv]:
    """The configurations around these files that are not in order now, before anything of them is changed."""
    found = set()
    for argv in {argv for path in paths for argv in _around(path)}:
        try:
            _ask(argv, "")
        except HostError:
            found.add(argv)
    return frozenset(found)


def after(paths: Iterable[str], known: frozenset[Argv] = frozenset()) -> None:
    """Raises HostError when a file that was changed is not in order. What was `known` to be broken before, as `broken`
    has it, tells nothing of the change.
    """
    asked = set(known)
    for path in paths:
        for argv in (*_alone(path), *_around(path)):
            if argv not in asked:
                asked.add(argv)
                _ask(argv, f"{path} is not in order")


def _around(path: str) -> Iterator[Argv]:
    """Whoever judges the configuration that the file is a part of."""
    yield from (argv for pattern, argv in _WHOLE.items() if fnmatch.fnmatchcase(path, pattern))
    cluster = _CLUSTER_FILE.match(path)
    if cluster:
        yield _postgres(*cluster.groups())


def _alone(path: str) -> Iterator[Argv]:
    """Whoever judges the file by itself. One that was taken away is read by nobody any more."""
    if not os.path.exists(path):
        return
    yield from ((*argv, path) for pattern, argv in _ALONE.items() if fnmatch.fnmatchcase(path, pattern))
    if _UNIT_FILE.match(path):
        # A drop-in is read with its unit; systemd-analyze(1) does not take one alone.
        folder = os.path.dirname(path)
        unit = folder[: -len(".d")] if folder.endswith(".d") else path
        if not unit.endswith(".conf"):
            yield ("/usr/bin/systemd-analyze", "verify", "--man=no", os.path.basename(unit) if unit != path else unit)


def _postgres(version: str, cluster: str) -> Argv:
    """postgres -C reads the whole configuration to say one value (postgres(1)); not as root, which it refuses."""
    program = f"/usr/lib/postgresql/{version}/bin/postgres"
    file = f"config_file=/etc/postgresql/{version}/{cluster}/postgresql.conf"
    return ("/usr/sbin/runuser", "-u", "postgres", "--", program, "-C", "data_directory", "-c", file)


def _ask(argv: Argv, otherwise: str) -> None:
    program = argv[4] if argv[0].endswith("runuser") else argv[0]
    if not os.path.exists(program):
        return
    try:
        done = run(argv, 60)
    except subprocess.TimeoutExpired:
        raise HostError(f"{otherwise}: {program} does not end") from None
    if done.returncode:
        said = (done.stderr + done.stdout).decode("utf-8", "replace").strip()[-_SAID:]
        raise HostError(f"{otherwise}: {os.path.basename(program)}: {said or f'exit code {done.returncode}'}")
