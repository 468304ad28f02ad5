"""The keys that open an account: ~/.ssh/authorized_keys, sshd(8).

The file belongs to the account, as ssh-copy-id(1) and people expect, not to root: in a folder that the account owns
a root-owned file could be replaced all the same. Root writes there only by descriptors and never through a link
(nofollow.py), so the worst that a race gives the account is a changed file of its own.
"""

from __future__ import annotations

import base64
import hashlib
import re
from dataclasses import dataclass

from ..change import Change
from ..probe import Host, Probe
from ..refused import Refused
from ..undo import Footprint
from .directory import Directory
from .file import File

#: Options end at the first blank outside quotes, as sshd reads them; a quote is escaped by a backslash.
_OPTIONS = r'(?:[^\s"]|"(?:\\"|\\(?!")|[^"\\])*")+'
_KEY = re.compile(
    rf"[ \t]*(?:({_OPTIONS})[ \t]+)??((?:sk-)?(?:ssh|ecdsa)-[a-z0-9@.-]+)[ \t]+([A-Za-z0-9+/]{{32,}}={{0,2}})"
    r"(?:[ \t]+(.*))?\Z"
)


@dataclass(frozen=True)
class Key:
    """One line of authorized_keys(5)."""

    type: str
    blob: str
    comment: str
    options: str
    line: str

    @property
    def fingerprint(self) -> str:
        """As `ssh-keygen -l` prints it."""
        digest = hashlib.sha256(base64.b64decode(self.blob + "==")).digest()
        return "SHA256:" + base64.b64encode(digest).decode().rstrip("=")


def parse_key(line: str) -> Key | None:
    """The key in a line; None for a comment, an empty line, or what is not a key."""
    match = None if line.lstrip().startswith("#") else _KEY.match(line)
    if not match:
        return None
    options, kind, blob, comment = match.groups(default="")
    return Key(kind, blob, comment.strip(), options, line)


def keys_of(probe: Probe, home: str) -> list[Key]:
    """The keys that open the account with that home."""
    lines = _lines(probe, _file(home))
    return [key for key in map(parse_key, lines) if key]


@dataclass(frozen=True)
class AuthorizedKeys:
    """Keys of a user: those in `add` are there and those in `remove` (keys or fingerprints) are not.

    With `exact` there are no others. The account may be made by an earlier step of the same plan; `home` is where it
    will live.
    """

    user: str
    home: str
    add: tuple[str, ...] = ()
    remove: tuple[str, ...] = ()
    exact: bool = False

    def check(self, probe: Probe) -> Change | None:
        old = _lines(probe, _file(self.home))
        new = self._wanted(old)
        before, after = _fingerprints(old), _fingerprints(new)
        fields = {key: (key in before, key in after) for key in sorted(before ^ after)}
        wrong = [step for step in self._steps(probe, new) if step.check(probe)]
        # Without keys there is nothing to make a folder or file for.
        if not fields and (not wrong or not old):
            return None
        verb = "update" if old else "create"
        return Change(verb, "authorized-keys", self.user, fields or {"mode or owner": ("wrong", "right")})

    def _wanted(self, lines: list[str]) -> list[str]:
        added = [key for key in map(parse_key, self.add) if key]
        kept = []
        for line in lines:
            key = parse_key(line)
            if key is None:
                kept.append(line)
                continue
            clash = [new for new in added if new.blob == key.blob]
            if clash and key.options and not self.exact:
                raise Refused(f"{self.user} already has the key {key.fingerprint} with options ({key.options})")
            listed = bool(clash) and not key.options
            if key.blob in self._removed_blobs or key.fingerprint in self.remove or (self.exact and not listed):
                continue
            kept.append(line)
        present = {key.blob for key in map(parse_key, kept) if key}
        return kept + [key.line for key in added if key.blob not in present]

    @property
    def _removed_blobs(self) -> set[str]:
        return {key.blob for key in map(parse_key, self.remove) if key}

    def _steps(self, probe: Probe, lines: list[str]) -> tuple[Directory, File]:
        found = probe.user(self.user)
        group = found.group if found else self.user
        content = "".join(f"{line}\n" for line in lines)
        return (
            Directory(f"{self.home}/.ssh", 0o700, self.user, group),
            File(_file(self.home), content, 0o600, self.user, group),
        )

    def apply(self, host: Host) -> None:
        for step in self._steps(host, self._wanted(_lines(host, _file(self.home)))):
            if step.check(host):
                step.apply(host)

    def footprint(self, _: Probe) -> Footprint:
        return Footprint(paths=(f"{self.home}/.ssh", _file(self.home)))


def _file(home: str) -> str:
    return f"{home}/.ssh/authorized_keys"


def _lines(probe: Probe, path: str) -> list[str]:
    # Without following: a link in a home could make us show or copy a file that the account may not read.
    return (probe.read(path, follow=False) or b"").decode("utf-8", "replace").splitlines()


def _fingerprints(lines: list[str]) -> set[str]:
    keys = [key for key in map(parse_key, lines) if key]
    return {f"{key.fingerprint} with options" if key.options else key.fingerprint for key in keys}
