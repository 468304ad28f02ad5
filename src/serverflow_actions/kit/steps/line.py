"""One line of a text file that others write too."""

from __future__ import annotations

import re
from dataclasses import dataclass

from ..change import Change
from ..probe import Host, Probe
from ..refused import Refused
from ..undo import Footprint
from .file import File


@dataclass(frozen=True)
class Line:
    """Exactly one line matches `match` (a regular expression, searched in each line), and it is `line`; or none does.

    The first that matches is replaced in its place, others that match are removed; without one the line goes to the
    end. All other lines, the mode and the owner stay. The file may not exist yet.
    """

    path: str
    match: str
    line: str = ""
    absent: bool = False

    def check(self, probe: Probe) -> Change | None:
        return self._file(probe).check(probe)

    def apply(self, host: Host) -> None:
        file = self._file(host)
        if file.check(host):
            file.apply(host)

    def footprint(self, probe: Probe) -> Footprint:
        return self._file(probe).footprint(probe)

    def _file(self, probe: Probe) -> File:
        found = probe.stat(self.path)
        if not found:
            return File(self.path, absent=True) if self.absent else File(self.path, self.line + "\n")
        if found.kind != "file":
            raise Refused(f"{self.path} is not a file but a {found.kind}")
        # Bytes that are not UTF-8 come back as they were.
        text = (probe.read(self.path, follow=False) or b"").decode("utf-8", "surrogateescape")
        content = self._edited(text).encode("utf-8", "surrogateescape")
        return File(self.path, content, found.mode, found.owner, found.group)

    def _edited(self, text: str) -> str:
        lines = text.split("\n")
        matching = [i for i, line in enumerate(lines) if re.search(self.match, line)]
        if not self.absent and [lines[i] for i in matching] == [self.line]:
            return text
        if self.absent or matching:
            if not self.absent:
                lines[matching.pop(0)] = self.line
            return "\n".join(line for i, line in enumerate(lines) if i not in matching)
        return text + ("" if text.endswith("\n") or not text else "\n") + self.line + "\n"
