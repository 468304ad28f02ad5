"""What the verbs of this area share: rules as nft(8) reads them, the ports that SSH needs, and the unit's file."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from ..kit import Change, Host, Probe, Refused
from ..kit.firewall import UNIT, UNIT_FILE, UNIT_TEXT
from ..kit.steps import File
from ..kit.undo import Footprint

#: What is let in whatever the rules say.
_HEAD = """\
# Written by ServerFlow (firewall.set): changes by hand are undone.
# One transaction: there is no moment without rules, and a mistake changes nothing.
table inet serverflow
delete table inet serverflow

table inet serverflow {
	chain input {
		type filter hook input priority filter; policy drop;

		iif "lo" accept
		ct state established,related accept

		# RFC 4890, sections 4.4.1 and 4.4.2, and what IPv4 has of it.
		icmp type { destination-unreachable, time-exceeded, parameter-problem, echo-request } accept
		icmpv6 type { destination-unreachable, packet-too-big, time-exceeded, parameter-problem } accept
		icmpv6 type { echo-request, echo-reply } accept
		icmpv6 type { nd-router-solicit, nd-router-advert, nd-neighbor-solicit, nd-neighbor-advert } accept
		icmpv6 type { ind-neighbor-solicit, ind-neighbor-advert } accept
		icmpv6 type { mld-listener-query, mld-listener-report, mld-listener-done, mld2-listener-report } accept
		icmpv6 type { 148, 149, 151, 152, 153 } accept

		# The server's own addresses (DHCP): answers come from elsewhere than was asked.
		udp sport 67 udp dport 68 accept
		ip6 saddr fe80::/10 udp sport 547 udp dport 546 accept

		ct state invalid counter drop

"""
_TAIL = """\

		counter comment "dropped"
	}
}
"""
_RULE = re.compile(r"([0-9]+)(?:-([0-9]+))?/(tcp|udp)(?: from (\S+))?\Z")
_WRITTEN = re.compile(r'comment "(allow|deny|ssh) ([^"]+)"$', re.M)

_SSHD = (
    re.compile(r"^[ \t]*Port[ \t=]+\"?([0-9]{1,5})\b", re.M | re.I),
    re.compile(r"^[ \t]*ListenAddress[ \t=]+\"?(?:\[[^]\s]+\]|[^]\s:\"[]+):([0-9]{1,5})\b", re.M | re.I),
)
_SOCKET = re.compile(r"^[ \t]*ListenStream[ \t]*=[ \t]*(?:\S+:)?([0-9]{1,5})[ \t]*$", re.M)


class Rule(NamedTuple):
    """`text` as `grammar.rule` returns it, in its parts; `source` is "" for everyone."""

    first: int
    last: int
    protocol: str
    source: str
    text: str

    def nft(self, does: str, label: str) -> str:
        """The line of the file; `list` reads the comment back."""
        ports = str(self.first) if self.first == self.last else f"{self.first}-{self.last}"
        source = f"{'ip6' if ':' in self.source else 'ip'} saddr {self.source} " if self.source else ""
        return f'\t\t{source}{self.protocol} dport {ports} {does} comment "{label} {self.text}"\n'


def rules(texts: Iterable[str]) -> list[Rule]:
    """Sorted, each once: the order of the fleet file must not make another file here."""
    found = [match for match in map(_RULE.match, texts) if match]
    return sorted({Rule(int(m[1]), int(m[2] or m[1]), m[3], m[4] or "", m[0]) for m in found})


def render(allow: Sequence[Rule], deny: Sequence[Rule], ssh: Iterable[int]) -> str:
    """The whole file."""
    lines = [rule.nft("counter drop", "deny") for rule in deny]
    lines += [rule.nft("accept", "ssh") for rule in rules(f"{port}/tcp" for port in ssh)]
    lines += [rule.nft("accept", "allow") for rule in allow]
    return _HEAD + "".join(lines) + _TAIL


def written(text: str) -> list[tuple[str, str]]:
    """The rules of a file that `render` made, in order: allow, deny or ssh, and the rule."""
    return _WRITTEN.findall(text)


def ssh_ports(probe: Probe) -> set[int]:
    """Where sshd listens by its configuration, sshd_config(5), or systemd for it (ssh.socket).

    Who listens at this moment cannot be seen from inside the sandbox, which has a network of its own.
    """
    config = _texts(probe, "/etc/ssh/sshd_config")
    named = [port for pattern in _SSHD for port in pattern.findall(config)]
    if not _SSHD[0].search(config):
        named.append("22")
    named += _SOCKET.findall(_texts(probe, "/etc/systemd/system/ssh.socket"))
    return {int(port) for port in named if 0 < int(port) < 65536}


def _texts(probe: Probe, path: str) -> str:
    drop_ins = [f"{path}.d/{name}" for name in probe.names(f"{path}.d") if name.endswith(".conf")]
    return "\n".join((probe.read(each) or b"").decode("utf-8", "replace") for each in (path, *drop_ins))


def keep_ssh_open(deny: Sequence[Rule], ports: Iterable[int]) -> None:
    """Raises Refused when nobody could reach a port of SSH any more, over IPv4 or over IPv6."""
    from ipaddress import IPv4Network, IPv6Network, collapse_addresses

    for port in sorted(ports):
        closed = [rule for rule in deny if rule.protocol == "tcp" and rule.first <= port <= rule.last]
        four = [IPv4Network(rule.source or "0.0.0.0/0") for rule in closed if ":" not in rule.source]
        six = [IPv6Network(rule.source or "::/0") for rule in closed if not rule.source or ":" in rule.source]
        for networks, name in ((collapse_addresses(four), "IPv4"), (collapse_addresses(six), "IPv6")):
            if any(network.prefixlen == 0 for network in networks):
                raise Refused(f"this would close port {port}, where SSH listens, to all of {name}")


@dataclass(frozen=True)
class FirewallUnit:
    """The file of the unit that loads the rules, at boot too. The executor writes it."""

    absent: bool = False

    def check(self, probe: Probe) -> Change | None:
        change = File(UNIT_FILE, UNIT_TEXT, absent=self.absent).check(probe)
        return change and change._replace(kind="unit-file", name=UNIT)

    def apply(self, host: Host) -> None:
        host.machine_do("firewall-unit", "absent" if self.absent else "present")

    def footprint(self, _: Probe) -> Footprint:
        return Footprint(paths=(UNIT_FILE,), after=("daemon-reload",))
