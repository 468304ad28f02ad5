"""One regular file: its content, mode and owner, or its absence."""

from __future__ import annotations

import difflib
import hashlib
from dataclasses import dataclass
from typing import Any

from ..change import Change, differing
from ..probe import FileState, Host, Probe
from ..refused import Refused
from ..undo import Footprint

#: Larger diffs help nobody, and receipts have bounds.
DIFF_LIMIT = 64 * 1024

_HIDDEN = "(secret)"
_BY_HAND = "changed by hand since sf wrote it: that version will be kept in /var/lib/serverflow/kept"
#: Who has to read files again once they are put back.
_READERS = {"/etc/systemd/system/": "daemon-reload", "/etc/ssh/sshd_config.d/": "reload-ssh"}


@dataclass(frozen=True)
class File:
    """A file with this content, or the blob with this SHA-256; `absent` removes it.

    A `secret` one shows that its content changed, never what it was or is, not even its hash: that could be guessed
    back. `show_diff=False` keeps the hashes and leaves out the text.
    """

    path: str
    content: bytes | str = b""
    mode: int = 0o644
    owner: str = "root"
    group: str = "root"
    secret: bool = False
    absent: bool = False
    blob: str = ""
    show_diff: bool = True

    @property
    def _bytes(self) -> bytes:
        return self.content.encode() if isinstance(self.content, str) else self.content

    @property
    def _sha256(self) -> str:
        return self.blob or hashlib.sha256(self._bytes).hexdigest()

    def check(self, probe: Probe) -> Change | None:
        found = probe.stat(self.path)
        if found and found.kind == "directory":
            raise Refused(f"{self.path} is a folder, not a file")
        if self.absent:
            return Change("delete", "file", self.path, note=self._note(probe)) if found else None
        before = _described(found)
        after: dict[str, Any] = {"kind": "file", "mode": f"{self.mode:04o}", "owner": self.owner, "group": self.group}
        # What is no regular file is replaced without being read: it may be a link to anything.
        old = probe.digest(self.path) if found and found.kind == "file" else None
        fields = differing(before, after) or {}
        if not found:
            del fields["kind"]
        changed = old != self._sha256
        if changed and self.secret:
            fields["content"] = (_HIDDEN if old else None, f"another {_HIDDEN}" if old else _HIDDEN)
        elif changed:
            fields["sha256"] = (old, self._sha256)
        if not fields:
            return None
        diff = self._diff(probe, found) if changed and self.show_diff and not self.secret and not self.blob else ""
        return Change("update" if found else "create", "file", self.path, fields, diff, self._note(probe))

    def differs(self, probe: Probe) -> bool:
        """Whether the content is another one, whatever mode and owner are."""
        found = probe.stat(self.path)
        return not found or found.kind != "file" or probe.digest(self.path) != self._sha256

    def _changed_by_hand(self, probe: Probe) -> bool:
        """Whether there is neither what ServerFlow last wrote nor what it is about to write."""
        written = probe.written(self.path)
        found = probe.stat(self.path) if written else None
        if not found or found.kind not in ("file", "link"):
            return False
        current = probe.digest(self.path) if found.kind == "file" else ""
        return current != written and (self.absent or current != self._sha256)

    def _note(self, probe: Probe) -> str:
        return _BY_HAND if self._changed_by_hand(probe) else ""

    def _diff(self, probe: Probe, found: FileState | None) -> str:
        readable = found is not None and found.kind == "file" and found.size <= DIFF_LIMIT
        old = (probe.read(self.path, follow=False) or b"") if readable else b""
        if (found and not readable) or len(self._bytes) > DIFF_LIMIT:
            return ""
        try:
            before, after = old.decode().splitlines(), self._bytes.decode().splitlines()
        except UnicodeDecodeError:
            return ""
        return "\n".join(difflib.unified_diff(before, after, self.path, self.path, lineterm=""))

    def apply(self, host: Host) -> None:
        if self._changed_by_hand(host):
            host.keep_aside(self.path)
        if self.absent:
            return host.remove(self.path)
        if not self.differs(host):
            # Not written anew: the modification time tells services whether they run with this content.
            return host.own(self.path, self.mode, self.owner, self.group)
        content = host.blob(self.blob) if self.blob else self._bytes
        return host.write(self.path, content, self.mode, self.owner, self.group)

    def footprint(self, _: Probe) -> Footprint:
        after = tuple(reader for folder, reader in _READERS.items() if self.path.startswith(folder))
        return Footprint(paths=(self.path,), after=after)


def _described(found: FileState | None) -> dict[str, Any]:
    if not found:
        return {}
    return {"kind": found.kind, "mode": f"{found.mode:04o}", "owner": found.owner, "group": found.group}
