"""What may stand in apt.conf(5) for unattended upgrades: settings of unattended-upgrades(8) and of apt's daily work.

apt.conf can run programs and include files. So only two forms are read: a statement on a line of its own, and a list of
quoted texts.
"""

from __future__ import annotations

import re

from ._content import check_value, refusal, statements

_SWITCH = "true|false"
#: Goes into a shell script of apt's: nothing but digits and a unit.
_DAYS = "[0-9]{1,6}[smhd]?|always"
_PATTERN = r"[A-Za-z0-9${} .,:=*+^_/-]{1,200}"

_U, _P = "Unattended-Upgrade::", "APT::Periodic::"
ALLOWED = {
    **{
        _U + name: _SWITCH
        for name in (
            "AutoFixInterruptedDpkg", "MinimalSteps", "InstallOnShutdown", "Remove-Unused-Kernel-Packages",
            "Remove-New-Unused-Dependencies", "Remove-Unused-Dependencies", "Automatic-Reboot",
            "Automatic-Reboot-WithUsers", "SyslogEnable", "OnlyOnACPower", "Skip-Updates-On-Metered-Connections",
            "Verbose", "Debug", "Package-Whitelist-Strict",
        )
    },
    _U + "DevRelease": "true|false|auto",
    _U + "Automatic-Reboot-Time": "now|[0-2][0-9]:[0-5][0-9]",
    _U + "SyslogFacility": "daemon|user|local[0-7]",
    _U + "Mail": r"[A-Za-z0-9_][A-Za-z0-9._+-]{0,63}(?:@[A-Za-z0-9][A-Za-z0-9.-]{0,252})?",
    _U + "MailReport": "always|on-change|only-on-error",
    **{
        _P + name: _DAYS
        for name in (
            "Enable", "Update-Package-Lists", "Download-Upgradeable-Packages", "Unattended-Upgrade",
            "AutocleanInterval", "CleanInterval", "Verbose", "RandomSleep", "MaxAge", "MinAge", "MaxSize",
            "BackupArchiveInterval",
        )
    },
}  # fmt: skip
LISTS = {
    _U + name: _PATTERN
    for name in ("Allowed-Origins", "Origins-Pattern", "Package-Blacklist", "Package-Whitelist", "Update-Days")
}
_STATEMENT = re.compile(r'([A-Za-z:-]+)[ \t]+"([^"]*)";\Z', re.ASCII)
_ITEM = re.compile(r'"([^"]*)";\Z', re.ASCII)


def check(content: str) -> None:
    """Raises Refused."""
    inside, number = "", 0
    for number, line in statements(content, ""):
        if line.startswith("//"):
            # apt looks for the ends of its other comments, of quotes and for #include in more places than one expects.
            if re.search(r'["#*{};]|//.*/', line):
                raise refusal(number, 'a comment must not have any of " # * { } ; or a second /')
        elif inside:
            item = _ITEM.match(line)
            if line == "};":
                inside = ""
            elif item:
                check_value(number, inside, item.group(1), LISTS)
            else:
                raise refusal(number, f'in the list of {inside} each line is `"text";`, and }}; ends it')
        else:
            inside = _begins(number, line)
    if inside:
        raise refusal(number, f"the list of {inside} has no end")


def _begins(number: int, line: str) -> str:
    """A statement, or the beginning of a list, whose name is returned."""
    opened = re.match(r"([A-Za-z:-]+)[ \t]*\{\Z", line, re.ASCII)
    if opened and opened.group(1) in LISTS:
        return opened.group(1)
    statement = _STATEMENT.match(line)
    if not statement:
        raise refusal(number, 'is neither `Name "value";` nor the beginning of a list that may be set here')
    check_value(number, statement.group(1), statement.group(2), ALLOWED)
    return ""
