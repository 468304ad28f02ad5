"""The kinds of files that are managed: where each lies, what may stand in it, and who has to read it again.

A key that may set one must not get root by its content: each kind has a list of what is allowed, and all else is
refused. `sudoers` is the exception by its nature: whoever may set it can make anyone root.
"""

from __future__ import annotations

import posixpath
from typing import Any, Callable, NamedTuple

from ..kit import Probe, Refused
from ..kit.engine import Step
from ..kit.spec import Param, param
from ..kit.steps import File, Reload
from ..kit.sysctl import FILE as SYSCTL_FILE
from . import _apt, _journald, _limits, _logrotate, _sshd, _sudoers, _sysctl
from ._content import refusal


class Kind(NamedTuple):
    """`unit` is asked to `verb` after a change; `after` is what follows when the file was put back (undo.Footprint)."""

    path: str
    help: str
    check: Callable[[str], None]
    mode: int = 0o644
    unit: str = ""
    verb: str = ""
    after: tuple[str, ...] = ()

    def file(self, content: str) -> File:
        """The file, which ends in a newline unless there is nothing in it."""
        return File(self.path, content if content.endswith("\n") or not content else content + "\n", self.mode)


def _check_text(content: str) -> None:
    """It goes to every terminal that logs in: no escape sequences."""
    for number, line in enumerate(content.split("\n"), 1):
        if not line.replace("\t", " ").isprintable():
            raise refusal(number, "has a character that cannot be printed")


KINDS = {
    # 00-serverflow.conf, which is read first and so wins, is enrolment's.
    "sshd": Kind(
        "/etc/ssh/sshd_config.d/50-serverflow-local.conf",
        "Settings of the SSH server: sshd_config(5)",
        _sshd.check,
        unit="ssh.service",
        verb="reload",
        after=("reload-ssh",),
    ),
    # Not by a restart of systemd-sysctl.service: that applies the files of all others too.
    "sysctl": Kind(SYSCTL_FILE, "Values of the kernel: sysctl.d(5)", _sysctl.check),
    "limits": Kind(
        "/etc/security/limits.d/60-serverflow.conf", "Limits of those who log in: limits.conf(5)", _limits.check
    ),
    "journald": Kind(
        "/etc/systemd/journald.conf.d/60-serverflow.conf",
        "How long logs are kept: journald.conf(5)",
        _journald.check,
        unit="systemd-journald.service",
        verb="restart",
        after=("reload:systemd-journald.service",),
    ),
    "logrotate": Kind("/etc/logrotate.d/serverflow", "Log files that are rotated: logrotate(8)", _logrotate.check),
    "unattended-upgrades": Kind(
        "/etc/apt/apt.conf.d/52serverflow", "Upgrades that happen by themselves: unattended-upgrades(8)", _apt.check
    ),
    "sudoers": Kind("/etc/sudoers.d/serverflow-local", "Who may use sudo: sudoers(5)", _sudoers.check, 0o440),
    # Not /etc/motd: to replace that the sandbox would have to open all of /etc.
    "motd": Kind("/etc/motd.d/60-serverflow", "What everyone sees who logs in: pam_motd(8)", _check_text),
}

KIND: Param = param("kind", "name", "Kind of file", choices=tuple(KINDS), positional=True)
#: What the sandbox opens is that of the one kind.
WRITES = tuple(f"{{kind={name}}}{posixpath.dirname(kind.path)}" for name, kind in KINDS.items())
UNITS = tuple(f"{{kind={name}}}{kind.unit}" for name, kind in KINDS.items() if kind.unit)
#: Only root may look into it.
READS = ("/etc/sudoers.d",)


def check(kind: str, content: str) -> None:
    """Whether this may stand in a file of that kind. Raises Refused with the number of the line."""
    KINDS[kind].check(content)


def reload_after(probe: Probe, name: str, file: File, content: str | None) -> Step | None:
    """The step that follows the file's; made before that is carried out. `content` is None where the file goes.

    Without its file sysctl has nothing to set: the values stay as they are until the next start.
    """
    kind = KINDS[name]
    if name == "sysctl" and content is not None:
        return _sysctl.in_force(probe, content, file)
    return Reload(kind.unit, kind.verb, file, file.check(probe) is not None, kind.after) if kind.unit else None


def text_of(probe: Probe, path: str) -> str | None:
    """What stands there, None for nothing. Raises Refused for what is no plain file."""
    state = probe.stat(path)
    if not state:
        return None
    if state.kind != "file":
        raise Refused(f"{path} is a {state.kind}, not a file")
    return (probe.read(path, follow=False) or b"").decode("utf-8", "replace")


def facts(probe: Probe, name: str) -> dict[str, Any]:
    """What `list` and `show` say. `changed_by_hand` is whether it is other than what ServerFlow last wrote."""
    path = KINDS[name].path
    state, ours = probe.stat(path), probe.written(path)
    found = probe.digest(path) if state and state.kind == "file" else ""
    return {
        "kind": name,
        "path": path,
        "present": state is not None,
        "managed": ours is not None,
        "changed_by_hand": ours is not None and found != ours,
    }
