"""Where a route may lead to: nothing that a server is told because it is the one that asks."""

from __future__ import annotations

import pytest

from serverflow_actions.kit.powerdns import API_PORT
from serverflow_actions.kit.route import location, target


@pytest.mark.parametrize(
    ("raw", "usual"),
    [
        ("3000", "3000"),
        ("localhost:3000", "3000"),
        ("127.0.0.1:3000", "3000"),
        ("127.0.0.2:3000", "127.0.0.2:3000"),
        ("[::1]:3000", "[::1]:3000"),
        (f"10.0.0.5:{API_PORT}", f"10.0.0.5:{API_PORT}"),
        ("[FD00::0001]:80", "[fd00::1]:80"),
        ("203.0.113.9:443", "203.0.113.9:443"),
        ("unix:/run/shop.sock", "unix:/run/shop.sock"),
        ("unix:/run/docker-shop/http.sock", "unix:/run/docker-shop/http.sock"),
        ("unix:/srv/docker/http.sock", "unix:/srv/docker/http.sock"),
    ],
)
def test_servers(raw: str, usual: str) -> None:
    assert target(raw) == target(usual) == usual


@pytest.mark.parametrize(
    ("raw", "why"),
    [
        ("169.254.169.254:80", "credentials"),
        ("169.254.170.2:80", "credentials"),
        ("[fe80::1]:80", "credentials"),
        ("[fd00:ec2::254]:80", "credentials"),
        ("[FD20:0CE::0254]:80", "credentials"),
        ("[fd00:42::42]:80", "credentials"),
        ("[FD00:0042::0042]:80", "credentials"),
        ("unix:/run/docker.sock", "orders as root"),
        ("unix:/var/run/docker.sock", "orders as root"),
        ("unix:/run/podman/podman.sock", "orders as root"),
        ("unix:/run/user/1000/podman/podman.sock", "orders as root"),
        ("unix:/run/containerd/containerd.sock", "orders as root"),
        ("unix:/run/k3s/containerd/containerd.sock", "orders as root"),
        ("unix:/run/crio/crio.sock", "orders as root"),
        ("unix:/var/snap/lxd/common/lxd/unix.socket", "orders as root"),
        ("unix:/var/lib/incus/unix.socket", "orders as root"),
        ("100.100.100.200:80", "credentials"),
        ("168.63.129.16:32526", "credentials"),
        ("0.0.0.0:22", "no server; a port of this one is written 22"),
        ("[::]:3000", "no server; a port of this one is written 3000"),
        ("224.0.0.1:80", "no server"),
        ("[ff02::1]:80", "no server"),
        ("[::ffff:169.254.169.254]:80", "is an address of IPv4"),
        ("[::ffff:a9fe:a9fe]:80", "is an address of IPv4"),
        ("[::ffff:127.0.0.1]:300", "is an address of IPv4"),
        (f"{API_PORT}", "PowerDNS"),
        (f"localhost:{API_PORT}", "PowerDNS"),
        (f"127.0.0.1:0{API_PORT}", "PowerDNS"),
        (f"127.0.0.9:{API_PORT}", "PowerDNS"),
        (f"[::1]:{API_PORT}", "PowerDNS"),
        ("2852039166:80", "not an address"),
        ("0251.0376.0251.0376:80", "not an address"),
        ("0xa9fea9fe:80", "not an address"),
        ("169.254.43518:80", "not an address"),
        ("[fe80::1%eth0]:80", "not an address"),
    ],
)
def test_what_is_for_nobody_outside(raw: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        target(raw)
    with pytest.raises(ValueError, match=why):
        location(f"/api {raw}")
