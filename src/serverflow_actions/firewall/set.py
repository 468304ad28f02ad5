"""Put the firewall's rules in force."""

from __future__ import annotations

from ..kit import Params, Probe, Refused, Steps, action, param
from ..kit.firewall import FOLDER, RULES, UNIT
from ..kit.steps import File, Service
from ._shared import FirewallUnit, keep_ssh_open, render, rules, ssh_ports


@action(
    "firewall.set",
    "Let in SSH and what is allowed, and drop all else that comes in",
    kind="change",
    timeout=120,
    writes=(FOLDER,),
    units=(UNIT,),
    host_verbs=("firewall-unit",),
    safe="always",
    resource="firewall.all",
    params=[
        param("allow", "rule", "Rule such as 443/tcp or 5432/tcp from 10.0.0.0/8 that lets in", default=(), many=True),
        param("deny", "rule", "Rule that drops what another one would let in", default=(), many=True),
        param("ssh-ports", "port", "Port of SSH besides those of its configuration", default=(), many=True),
    ],
)
def set_rules(params: Params, probe: Probe) -> Steps:
    if not probe.stat("/usr/sbin/nft"):
        raise Refused("nft is missing; install its package first: sf package install nftables", "needs-package")
    allow, deny = rules(params.allow), rules(params.deny)
    ports = ssh_ports(probe) | set(params.ssh_ports)
    keep_ssh_open(deny, ports)

    file = File(RULES, render(allow, deny, ports))
    yield file
    yield FirewallUnit()
    yield Service(UNIT, config=(file,), reload=True)
    return {"unit": UNIT, "ssh_ports": sorted(ports)}
