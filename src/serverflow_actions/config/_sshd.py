"""What may stand in sshd_config(5): who logs in, how, and with which algorithms. Nothing that names a command or a
file, no Match and no Include.
"""

from __future__ import annotations

import re
from fnmatch import fnmatchcase

from ._content import check_value, refusal, statements

_SWITCH = "yes|no"
_NUMBER = "[0-9]{1,9}"
_TIME = "(?:[0-9]{1,9}[smhdwSMHDW]?){1,4}"
_PATTERNS = r"[A-Za-z0-9_.*?!@:/-]+(?:[ \t]+[A-Za-z0-9_.*?!@:/-]+)*"
_ALGORITHMS = r"[+^-]?[A-Za-z0-9@.,*?!-]+"

ALLOWED = {
    "Port": "[1-9][0-9]{0,4}",
    "ListenAddress": r"[0-9A-Za-z.:%-]+|\[[0-9A-Fa-f.:%a-z]+\](?::[0-9]{1,5})?",
    "PermitRootLogin": "yes|no|prohibit-password|without-password|forced-commands-only",
    "PasswordAuthentication": _SWITCH,
    "KbdInteractiveAuthentication": _SWITCH,
    "PubkeyAuthentication": _SWITCH,
    "PermitEmptyPasswords": "no",
    "StrictModes": "yes",
    "IgnoreRhosts": "yes|no|shosts-only",
    "AllowUsers": _PATTERNS,
    "AllowGroups": _PATTERNS,
    "DenyUsers": _PATTERNS,
    "DenyGroups": _PATTERNS,
    "MaxAuthTries": _NUMBER,
    "MaxSessions": _NUMBER,
    "MaxStartups": "[0-9]{1,6}(?::[0-9]{1,3}:[0-9]{1,6})?",
    "LoginGraceTime": _TIME,
    "ClientAliveInterval": _TIME,
    "ClientAliveCountMax": _NUMBER,
    "TCPKeepAlive": _SWITCH,
    "UseDNS": _SWITCH,
    "X11Forwarding": _SWITCH,
    "AllowTcpForwarding": "yes|no|all|local|remote",
    "AllowStreamLocalForwarding": "yes|no|all|local|remote",
    "AllowAgentForwarding": _SWITCH,
    "GatewayPorts": "yes|no|clientspecified",
    "PermitTunnel": "yes|no|point-to-point|ethernet",
    "LogLevel": "QUIET|FATAL|ERROR|INFO|VERBOSE|DEBUG[123]?",
    "PrintMotd": _SWITCH,
    "PrintLastLog": _SWITCH,
    "Ciphers": _ALGORITHMS,
    "MACs": _ALGORITHMS,
    "KexAlgorithms": _ALGORITHMS,
    "HostKeyAlgorithms": _ALGORITHMS,
    "PubkeyAcceptedAlgorithms": _ALGORITHMS,
    "RekeyLimit": rf"(?:default|[0-9]{{1,9}}[KMGkmg]?)(?:[ \t]+(?:none|{_TIME}))?",
}
#: sshd reads keywords without regard to case.
_NAMES = {name.lower(): name for name in ALLOWED}


def check(content: str) -> None:
    """Raises Refused."""
    for number, line in statements(content):
        match = re.match(r"([A-Za-z0-9]+)[ \t]+(.+)\Z", line)
        if not match:
            raise refusal(number, "is not of the form `Keyword value`")
        keyword = _NAMES.get(match.group(1).lower(), match.group(1))
        check_value(number, keyword, match.group(2), ALLOWED)
        # AllowUsers and AllowGroups have values of their own for ServerFlow's login, in enrolment's Match block.
        if keyword in ("DenyUsers", "DenyGroups") and any(map(_is_ours, match.group(2).split())):
            raise refusal(number, "would keep the login serverflow out")


def _is_ours(pattern: str) -> bool:
    return fnmatchcase("serverflow", pattern.lstrip("!").partition("@")[0].lower())
