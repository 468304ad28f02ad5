"""A machine's addresses, out of what proc(5) shows."""

from __future__ import annotations

import json
import subprocess
import sys
from ipaddress import ip_address

import pytest

from serverflow_actions.kit import addresses

_TRIE = """\
Main:
  +-- 0.0.0.0/0 3 0 5
     +-- 10.0.0.0/24 2 0 2
        |-- 10.0.0.0
           /24 link UNICAST
        |-- 10.0.0.9
           /32 host LOCAL
        |-- 10.0.0.255
           /32 link BROADCAST
Local:
     |-- 127.0.0.1
        /32 host LOCAL
     |-- 169.254.1.1
        /32 host LOCAL
     |-- 9.9.9.9
        /32 host LOCAL
     |-- 10.0.0.9
        /32 host LOCAL
"""
_INET6 = """\
00000000000000000000000000000001 01 80 10 80       lo
fe80000000000000021122fffe334455 02 40 20 80     eth0
20010db8000000000000000000000002 02 40 00 80     eth0
20010db8000000001234567890abcdef 02 40 00 01     eth0
20010db8000000000000000000000001 02 40 00 80     eth0
"""


def test_those_that_others_reach() -> None:
    found = addresses.in_tables(_TRIE, _INET6, "")
    assert found == ["9.9.9.9", "10.0.0.9", "2001:db8::1", "2001:db8::2"]


def networks(*lines: tuple[str, str, str, str]) -> str:
    """/proc/net/route, of interface, destination, gateway and mask."""
    head = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n"
    made = []
    for link, *places in lines:
        to, gateway, mask = (f"{int.from_bytes(ip_address(each).packed, sys.byteorder):08X}" for each in places)
        made.append(f"{link}\t{to}\t{gateway}\t0001\t0\t0\t0\t{mask}\t0\t0\t0   \n")
    return head + "".join(made)


_DEFAULT = ("eth0", "0.0.0.0", "10.0.0.1", "0.0.0.0")
_WIDE = ("eth0", "10.0.0.0", "0.0.0.0", "255.0.0.0")
_BRIDGED = ("10.0.0.0", "0.0.0.0", "255.255.255.0")


@pytest.mark.parametrize(
    "link", ["docker0", "docker_gwbridge", "br-afe40e77c68d", "virbr0", "lxdbr0", "incusbr0", "podman1", "cni0"]
)
def test_bridges_to_containers_lead_to_nobody_else(link: str) -> None:
    bridged = networks(_DEFAULT, _WIDE, (link, *_BRIDGED))
    assert addresses.in_tables(_TRIE, "", bridged) == ["9.9.9.9"]
    inet6 = f"{_INET6}20010db8000000000000000000000009 07 40 00 80 {link:>8}\n"
    assert addresses.in_tables("", inet6, bridged) == ["2001:db8::1", "2001:db8::2"]


@pytest.mark.parametrize("link", ["eth1", "br-lan", "br0", "bridge-docker", "wg0", "br-afe40e77c68d0"])
def test_other_networks_are_somebodys(link: str) -> None:
    assert addresses.in_tables(_TRIE, "", networks(_DEFAULT, (link, *_BRIDGED))) == ["9.9.9.9", "10.0.0.9"]


def test_the_narrowest_network_is_where_an_address_is() -> None:
    inner = ("docker0", "10.0.0.0", "0.0.0.0", "255.0.0.0")
    assert "10.0.0.9" in addresses.in_tables(_TRIE, "", networks(inner, ("eth0", *_BRIDGED)))
    routed = ("docker0", "10.0.0.0", "10.9.9.9", "255.255.255.0")
    assert "10.0.0.9" in addresses.in_tables(_TRIE, "", networks(routed)), "it leads on, and has no address there"


def test_a_kernel_without_ipv6() -> None:
    assert addresses.in_tables(_TRIE, "", "") == ["9.9.9.9", "10.0.0.9"]
    assert addresses.in_tables("", "", "") == []


def test_of_this_machine_it_knows_what_ip_knows() -> None:
    try:
        said = subprocess.run(["ip", "-json", "address"], capture_output=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("there is no ip(8) that speaks JSON")
    known = {each["local"] for link in json.loads(said) for each in link["addr_info"] if each["scope"] == "global"}
    assert set(addresses.own()) <= known
