"""One setting in the text of a managed file, for the kinds that have a setting on each line."""

from __future__ import annotations

import re
from collections.abc import Mapping

from ..errors import UsageError

#: By kind: what stands behind a key, and how a setting is written.
_FORMS: Mapping[str, tuple[str, str]] = {
    "sshd": (r"[ \t]", "{key} {value}"),
    "sysctl": (r"[ \t]*=", "{key} = {value}"),
    "journald": (r"[ \t]*=", "{key}={value}"),
    "unattended-upgrades": (r'[ \t]+"', '{key} "{value}";'),
}


def with_setting(kind: str, content: str, key: str, value: str) -> str:
    """The text with that setting once: in the place of the first of that key, else at the end.

    Raises UsageError for a kind without settings of that form.
    """
    if kind not in _FORMS:
        raise UsageError(f"{kind} has no KEY=VALUE settings", hint=f"sf config edit {kind}")
    behind, form = _FORMS[kind]
    # sshd alone reads keys without regard to case.
    pattern = re.compile(rf"[ \t]*{re.escape(key)}{behind}", re.I if kind == "sshd" else 0)
    setting = form.format(key=key, value=value)
    lines = content.removesuffix("\n").split("\n") if content else []
    if kind == "journald" and "[Journal]" not in map(str.strip, lines):
        lines.append("[Journal]")
    found = [number for number, line in enumerate(lines) if pattern.match(line)]
    if not found:
        return "\n".join([*lines, setting]) + "\n"
    lines[found[0]] = setting
    return "\n".join(line for number, line in enumerate(lines) if number not in found[1:]) + "\n"
