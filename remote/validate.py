"""What a service says of its own configuration: asked before it is told to read it, and after files were changed.

A program that is not installed has nothing to say. Root, outside the sandbox, as in a service's own start.
"""

from __future__ import annotations

import fnmatch
import os
import re
import subprocess
from collections.abc import Iterable, Iterator, Sequence

from rollback import run
from serverflow_actions.kit.firewall import RULES
from serverflow_actions.kit.host import HostError

Argv = Sequence[str]

_NGINX = ("/usr/sbin/nginx", "-t", "-q")
_SSHD = ("/usr/sbin/sshd", "-t")
_SUDO = ("/usr/sbin/visudo", "-c", "-q")
_NAMED = ("/usr/bin/named-checkconf", "-z")
_POSTFIX = ("/usr/sbin/postfix", "check")
_FIREWALL = ("/usr/sbin/nft", "-c", "-f", RULES)
_UNITS: dict[str, Argv] = {
    "nginx.service": _NGINX,
    "ssh.service": _SSHD,
    "sshd.service": _SSHD,
    "named.service": _NAMED,
    "bind9.service": _NAMED,
    "postfix.service": _POSTFIX,
    "serverflow-firewall.service": _FIREWALL,
}
_FILES: dict[str, Argv] = {
    "/etc/nginx/*": _NGINX,
    "/etc/ssh/sshd_config*": _SSHD,
    "/etc/sudoers*": _SUDO,
    "/etc/bind/*": _NAMED,
    "/etc/postfix/*": _POSTFIX,
    RULES: _FIREWALL,
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


def after(paths: Iterable[str]) -> None:
    """Raises HostError when a file that was changed is not in order."""
    asked = set()
    for path in paths:
        for argv in _of(path):
            if tuple(argv) not in asked:
                asked.add(tuple(argv))
                _ask(argv, f"{path} is not in order")


def _of(path: str) -> Iterator[Argv]:
    if path == RULES and not os.path.exists(path):
        return  # it was taken away, and nothing reads it any more
    yield from (argv for pattern, argv in _FILES.items() if fnmatch.fnmatchcase(path, pattern))
    cluster = _CLUSTER_FILE.match(path)
    if cluster:
        yield _postgres(*cluster.groups())
    if _UNIT_FILE.match(path) and os.path.exists(path):
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
