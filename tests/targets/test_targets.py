"""The test servers are what the other tests take them for."""

import socket
import subprocess
from collections.abc import Callable

import pytest

from .target import Target


@pytest.fixture(params=["target", "target2", "old_target", "new_target"])
def each(request: pytest.FixtureRequest) -> Target:
    server: Target = request.getfixturevalue(request.param)
    return server


def ssh(server: Target, command: str, user: str = "root", *, direct: bool = False) -> subprocess.CompletedProcess[str]:
    """Plain OpenSSH that knows the server by its host key and nothing else."""
    host, port = (server.ip, 22) if direct else (server.host, server.port)
    known_hosts = server.admin_key.with_name(f"{server.name}-known_hosts")
    known_hosts.write_text(f"{server.name} {server.host_key()}\n")
    options = {
        "HostKeyAlias": server.name,
        "UserKnownHostsFile": known_hosts,
        "GlobalKnownHostsFile": "/dev/null",
        "StrictHostKeyChecking": "yes",
        "IdentitiesOnly": "yes",
        "BatchMode": "yes",
        "ConnectTimeout": "5",
    }
    flags = [word for name, value in options.items() for word in ("-o", f"{name}={value}")]
    argv = ["ssh", "-F", "/dev/null", "-i", str(server.admin_key), *flags, "-p", str(port), f"{user}@{host}", command]
    return subprocess.run(argv, capture_output=True, text=True, timeout=30)


def banner(server: Target) -> bytes:
    with socket.create_connection((server.host, server.port), timeout=1) as connection:
        connection.settimeout(1)
        return connection.recv(4)


def test_systemd_runs_without_failed_units(each: Target) -> None:
    failed = each.run("systemctl", "--failed", "--no-legend").stdout
    assert each.run("systemctl", "is-system-running", check=False).stdout.strip() == "running", failed


def test_the_release_is_the_one_it_says(each: Target) -> None:
    version = each.run("sh", "-c", ". /etc/os-release; echo $ID$VERSION_ID").stdout.strip()
    assert version == each.release


@pytest.mark.parametrize("direct", [False, True], ids=["published", "direct"])
def test_the_admin_key_logs_in(each: Target, direct: bool) -> None:
    done = ssh(each, "id -un; hostname", direct=direct)
    assert (done.stdout.split(), done.returncode) == (["root", each.name], 0), done.stderr


def test_sudo_with_and_without_a_password(target: Target) -> None:
    assert ssh(target, "sudo -n id -un", "admin").stdout == "root\n"
    assert ssh(target, "sudo -n id -un", "pwadmin").returncode != 0
    assert ssh(target, "echo testpw | sudo -S id -un", "pwadmin").stdout == "root\n"


def test_python_is_recent_enough(each: Target) -> None:
    version = ssh(each, "python3 -c 'import sys; print(*sys.version_info[:2])'").stdout.split()
    assert tuple(map(int, version)) >= (3, 9)


def test_servers_have_keys_and_ids_of_their_own(
    target: Target, target2: Target, fresh_target: Callable[..., Target]
) -> None:
    servers = [target, target2, fresh_target(), fresh_target()]
    assert len({server.host_key() for server in servers}) == 4
    assert len({server.run("cat", "/etc/machine-id").stdout for server in servers}) == 4


def test_servers_reach_each_other_by_name(target: Target, target2: Target) -> None:
    assert target.run("getent", "hosts", "db1").stdout.split()[0] == target2.ip
    target.run("timeout", "5", "bash", "-c", "</dev/tcp/db1/22")


@pytest.mark.parametrize("release", ["debian11", "debian12", "debian13"])
def test_packages_install_offline(fresh_target: Callable[..., Target], release: str) -> None:
    server = fresh_target(release)
    server.disconnect()
    server.run("env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "-qy", "install", "htop", "tree", "redis-server")
    assert server.run("systemctl", "is-active", "redis-server").stdout == "active\n"


def test_a_reboot_comes_back_as_the_same_server(fresh_target: Callable[..., Target]) -> None:
    server = fresh_target()
    key, id_before = server.host_key(), server.run("cat", "/etc/machine-id").stdout
    server.run("touch", "/run/before", "/root/before")
    server.reboot()
    assert ssh(server, "ls /run/before /root/before").stdout == "/root/before\n"
    assert ssh(server, "true", direct=True).returncode == 0
    assert (server.host_key(), server.run("cat", "/etc/machine-id").stdout) == (key, id_before)


def test_a_power_cut_comes_back(fresh_target: Callable[..., Target]) -> None:
    server = fresh_target()
    server.power_cut()
    assert ssh(server, "systemctl is-system-running").stdout == "running\n"


def test_a_pause_hangs_and_a_disconnection_cuts(fresh_target: Callable[..., Target]) -> None:
    server = fresh_target()
    server.pause()
    with pytest.raises(TimeoutError):
        banner(server)
    server.unpause()
    assert banner(server) == b"SSH-"
    server.disconnect()
    with pytest.raises(OSError):
        assert banner(server)
    server.reconnect()
    assert ssh(server, "true").returncode == 0
    assert ssh(server, "true", direct=True).returncode == 0
