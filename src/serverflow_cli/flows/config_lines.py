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


#: Keys of sshd that may stand on several lines, and all count.
_REPEATED = ("port", "listenaddress")
#: Keys of sshd that say who may log in, and how.
_LOGINS = (
    "AllowUsers", "AllowGroups", "DenyUsers", "DenyGroups", "AuthenticationMethods", "PermitRootLogin",
    "PasswordAuthentication", "PubkeyAuthentication", "KbdInteractiveAuthentication",
)  # fmt: skip


def with_setting(kind: str, content: str, key: str, value: str) -> str:
    """The text with that setting once: in the place of the first of that key, else at the end. For a key that may be
    repeated, `22,2222` are two lines.

    Raises UsageError for a kind without settings of that form.
    """
    if kind not in _FORMS:
        raise UsageError(f"{kind} has no KEY=VALUE settings", hint=f"sf config edit {kind}")
    behind, form = _FORMS[kind]
    # sshd alone reads keys without regard to case.
    pattern = re.compile(rf"[ \t]*{re.escape(key)}{behind}", re.I if kind == "sshd" else 0)
    repeated = kind == "sshd" and key.lower() in _REPEATED
    values = [part.strip() for part in value.split(",")] if repeated else [value]
    settings = "\n".join(form.format(key=key, value=one) for one in values)
    lines = content.removesuffix("\n").split("\n") if content else []
    if kind == "journald" and "[Journal]" not in map(str.strip, lines):
        lines.append("[Journal]")
    found = [number for number, line in enumerate(lines) if pattern.match(line)]
    if not found:
        return "\n".join([*lines, settings]) + "\n"
    lines[found[0]] = settings
    return "\n".join(line for number, line in enumerate(lines) if number not in found[1:]) + "\n"


def lost_ports(kind: str, content: str, ports: Mapping[str, int]) -> str:
    """What to do about servers whose SSH port, by name, sshd would no longer listen on; "" when there are none.

    A text without `Port` leaves that to other files.
    """
    named = set(re.findall(r"^[ \t]*Port[ \t]+(\d+)", content, re.I | re.M)) if kind == "sshd" else set()
    lost = {name: port for name, port in ports.items() if named and str(port) not in named}
    if not lost:
        return ""
    old, new = next(iter(lost.values())), sorted(named, key=int)
    return (
        f"sshd would no longer listen where fleet.toml has {', '.join(lost)}: keep the old port beside the new one "
        f"(Port={','.join([str(old), *new])}), change `port` in fleet.toml, then drop the old one"
    )


def limits_logins(kind: str, content: str) -> str:
    """What to do about settings by which people may lose their logins: they do not count for the login of `sf`, so its
    new connection proves nothing about them. "" when there are none.
    """
    found = re.findall(rf"^[ \t]*({'|'.join(_LOGINS)})[ \t]", content, re.I | re.M) if kind == "sshd" else []
    if not found:
        return ""
    keys = ", ".join(dict.fromkeys(found))
    return (
        f"{keys}: only the login of sf itself is proved by its new connection; try yours in another terminal, "
        "with --no-confirm before it counts (sf config remove sshd takes it back)"
    )
