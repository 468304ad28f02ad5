"""What may stand in limits.conf(5)."""

from __future__ import annotations

import re

from ._content import refusal, statements

#: Without `chroot`, which Debian's pam_limits knows too.
_ITEMS = (
    "core", "data", "fsize", "memlock", "nofile", "rss", "stack", "cpu", "nproc", "as", "maxlogins", "maxsyslogins",
    "priority", "locks", "sigpending", "msgqueue", "nice", "rtprio",
)  # fmt: skip
_LINE = re.compile(
    r"(?P<domain>\*|%|[@%]?[a-z_][a-z0-9_.-]{0,31}|@?(?:[0-9]{1,10}:[0-9]{0,10}|:[0-9]{1,10}))[ \t]+(?:soft|hard|-)"
    rf"[ \t]+(?:{'|'.join(_ITEMS)})[ \t]+(?:-?[0-9]{{1,19}}|unlimited|infinity)\Z",
    re.ASCII,
)


def check(content: str) -> None:
    """Raises Refused."""
    for number, line in statements(content):
        match = _LINE.match(line)
        if not match:
            raise refusal(number, "is not of the form `domain soft|hard|- item value` of limits.conf(5)")
        if match.group("domain").lstrip("@%") == "serverflow":
            raise refusal(number, "is about the login serverflow")
