"""`sf server add`: from an administrator's login to signed commands, whatever comes in between."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pexpect
import pytest

from .listeners import relay
from .operator import SF, Operator, checksum, eventually, fingerprint, new_operator
from .target import Target, call

Fresh = Callable[..., Target]
#: Prints every process that has the password among its arguments or in its environment.
WATCH = """
import glob, os
while not os.path.exists("/run/seen-enough"):
    for path in glob.glob("/proc/[0-9]*/cmdline") + glob.glob("/proc/[0-9]*/environ"):
        try:
            with open(path, "rb") as file:
                if b"test" + b"pw" in file.read():
                    print(path, flush=True)
        except OSError:
            pass
"""
HOST_KEY = "/etc/ssh/ssh_host_ed25519_key"
OURS = (
    "/etc/sudoers.d/serverflow",
    "/etc/ssh/sshd_config.d/00-serverflow.conf",
    "/etc/ssh/serverflow_authorized_keys",
)


def sshd_settings(target: Target, user: str) -> str:
    """What sshd does with a login, as sshd itself says."""
    return target.run("sshd", "-T", "-C", f"user={user},host=localhost,addr=127.0.0.1").stdout


def known_hosts(operator: Operator, target: Target, key: str = "") -> None:
    folder = operator.home / ".ssh"
    folder.mkdir(exist_ok=True)
    line = f"[{target.host}]:{target.port} {key or target.host_key()}\n{target.ip} {key or target.host_key()}\n"
    (folder / "known_hosts").write_text(line)


def takes_commands(operator: Operator, name: str = "web1") -> bool:
    return bool(operator.json("system", "info", "--on", name)["ok"])


def root_can_log_in(target: Target) -> bool:
    options = ["-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "IdentitiesOnly=yes"]
    argv: list[str | Path] = [
        "ssh",
        *options,
        "-i",
        target.admin_key,
        "-p",
        str(target.port),
        f"root@{target.host}",
        "id",
        "-u",
    ]
    return call(*argv, check=False).stdout == "0\n"


def nothing_is_open(target: Target) -> None:
    """An enrolment that failed leaves no way in, and sshd as it was."""
    for path in OURS:
        assert target.run("test", "-e", path, check=False).returncode, f"{path} is there"
    assert (
        target.run("sh", "-c", "ls /var/lib/serverflow/safe/pending /etc/serverflow/trust/*", check=False).stdout == ""
    )
    assert target.run("systemctl", "is-active", "ssh").stdout == "active\n"
    assert root_can_log_in(target)


def refused(done: subprocess.CompletedProcess[str], code: int, *words: str) -> None:
    assert done.returncode == code, done.stdout + done.stderr
    for word in words:
        assert word in done.stderr
    assert "sf: error:" in done.stderr and "Traceback" not in done.stderr


def with_password(operator: Operator, target: Target, password: str) -> pexpect.spawn[str]:
    login = f"pwadmin@{target.host}:{target.port}"
    argv = [
        "server",
        "add",
        "web1",
        login,
        "-i",
        str(target.admin_key),
        "--fingerprint",
        fingerprint(target),
        "--ask-sudo",
    ]
    env = operator.environment()
    terminal = pexpect.spawn(str(SF), argv, env=env, cwd=str(operator.fleet), encoding="utf-8", timeout=60)
    terminal.expect("sudo password for pwadmin")
    terminal.sendline(password)
    terminal.expect(pexpect.EOF)
    terminal.close()
    return terminal


@pytest.mark.parametrize("release", ["debian11", "debian12", "debian13"])
def test_enrolling_as_root_as_admin_and_with_a_password(
    fresh_target: Fresh, fresh_operator: Operator, release: str
) -> None:
    target, operator = fresh_target(release), fresh_operator
    target.run("su", "admin", "-c", "sudo true")  # leaves ~/.sudo_as_admin_successful
    before = {user: sshd_settings(target, user) for user in ("root", "admin")}
    operator.add("web1", target, "--role", "app")
    assert takes_commands(operator)
    assert {user: sshd_settings(target, user) for user in before} == before

    # Again, by another login, with nothing to do: not a byte or a time changes on the server.
    found = checksum(target)
    trust = sorted(path.name for path in (operator.fleet / "trust").iterdir())
    operator.add("web1", target, user="admin")
    assert checksum(target) == found
    assert sorted(path.name for path in (operator.fleet / "trust").iterdir()) == trust
    assert operator.json("server", "list")["data"]["servers"][0]["roles"] == ["app"]

    operator.run("server", "remove", "web1", "--confirm", "web1")
    nothing_is_open(target)
    if release == "debian12":
        refused(operator.add("web1", target, "--ask-sudo", user="admin", check=False), 2, "terminal")
        nothing_is_open(target)
        operator.add("web1", target, user="admin")
        assert takes_commands(operator)
        operator.run("server", "remove", "web1", "--confirm", "web1")

    refused(operator.add("web1", target, user="pwadmin", check=False), 6, "--ask-sudo")
    wrong = with_password(operator, target, "wrong")
    assert wrong.exitstatus == 6 and "did not accept the password" in wrong.before
    nothing_is_open(target)
    watcher = subprocess.Popen(["docker", "exec", target.container, "python3", "-c", WATCH], stdout=subprocess.PIPE)
    right = with_password(operator, target, "testpw")
    target.run("touch", "/run/seen-enough")
    assert right.exitstatus == 0, right.before
    assert watcher.communicate()[0] == b""
    assert "testpw" not in right.before
    said = target.run("sh", "-c", "journalctl --no-pager; cat /var/log/*.log 2>/dev/null; true").stdout
    assert "sudo" in said and "testpw" not in said
    assert (
        target.run("grep", "-rlI", "testpw", "/var/lib/serverflow", "/etc", "/run/serverflow", check=False).stdout == ""
    )
    assert takes_commands(operator)


def test_a_password_that_sudo_does_not_ask_for_stays_here(fresh_target: Fresh, fresh_operator: Operator) -> None:
    target, operator = fresh_target(), fresh_operator
    target.run("sh", "-c", "echo 'pwadmin ALL=(ALL:ALL) NOPASSWD: ALL' >/etc/sudoers.d/zz-free")
    terminal = with_password(operator, target, "testpw")
    assert terminal.exitstatus == 0, terminal.before
    assert takes_commands(operator)


def test_who_vouches_for_the_host_key(fresh_target: Fresh, fresh_operator: Operator) -> None:
    target, operator = fresh_target(), fresh_operator
    login = f"root@{target.host}:{target.port}"
    key = ["-i", str(target.admin_key)]
    found = checksum(target)

    refused(operator.run("server", "add", "web1", login, *key, check=False), 2, "--fingerprint SHA256:")
    other = "SHA256:" + "A" * 43
    done = operator.run("server", "add", "web1", login, *key, "--fingerprint", other, check=False)
    refused(done, 4, fingerprint(target))
    known_hosts(operator, target, "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJm0ZLmBHNBnRHMcUMLr7GSZ3Wq4q2Wq5Pl2bY8C0s6O")
    refused(operator.run("server", "add", "web1", login, *key, check=False), 4, "known_hosts", "ssh-keygen -R")
    (operator.home / ".ssh/known_hosts").unlink()

    argv = ["server", "add", "web1", login, *key]
    env = operator.environment()
    terminal = pexpect.spawn(str(SF), argv, env=env, cwd=str(operator.fleet), encoding="utf-8", timeout=60)
    terminal.expect("SHA256:[A-Za-z0-9+/]{43}")
    assert terminal.after == fingerprint(target)
    terminal.sendline("n")
    terminal.expect(pexpect.EOF)
    terminal.close()
    assert terminal.exitstatus == 4
    assert checksum(target) == found  # nothing of all that touched the server

    terminal = pexpect.spawn(str(SF), argv, env=env, cwd=str(operator.fleet), encoding="utf-8", timeout=60)
    terminal.expect(r"\[y/N\]")
    terminal.sendline("y")
    terminal.expect(pexpect.EOF)
    terminal.close()
    assert terminal.exitstatus == 0
    assert operator.json("server", "show", "web1")["data"]["pinned_from"] == "prompt"

    operator.run("server", "remove", "web1", "--confirm", "web1")
    known_hosts(operator, target)
    done = operator.run("server", "add", "web1", login, *key)
    assert fingerprint(target) in done.stderr and "known_hosts" in done.stderr
    assert operator.json("server", "show", "web1")["data"]["pinned_from"] == "known_hosts"
    assert takes_commands(operator)


def test_an_alias_of_the_ssh_config_and_an_ipv6_address(fresh_target: Fresh, fresh_operator: Operator) -> None:
    target, operator = fresh_target(), fresh_operator
    known_hosts(operator, target)
    config = (
        f"Host shop\n  HostName {target.host}\n  Port {target.port}\n  User admin\n  IdentityFile {target.admin_key}\n"
    )
    (operator.home / ".ssh/config").write_text(config)
    for _ in range(2):
        operator.run("server", "add", "web1", "shop")
        assert takes_commands(operator)
    (row,) = operator.json("server", "list")["data"]["servers"]
    assert (row["host"], row["port"]) == (target.host, target.port)

    operator.run("server", "remove", "web1", "--confirm", "web1")
    with relay((target.host, target.port), "::1") as port:
        known = ["-i", str(target.admin_key), "--fingerprint", fingerprint(target)]
        operator.run("server", "add", "web1", f"root@[::1]:{port}", *known)
        assert takes_commands(operator)
        refused(
            operator.run("server", "add", "web1", f"root@{target.host}:{target.port}", *known, check=False), 2, "::1"
        )


def test_through_a_jump_host(target2: Target, fresh_target: Fresh, fresh_operator: Operator) -> None:
    """The jump host is logged into with the operator's own keys, and is pinned too."""
    target, operator, jump = fresh_target(), fresh_operator, target2
    through = f"admin@{jump.host}:{jump.port}"
    argv = ["server", "add", "web1", f"root@{target.ip}", "-i", str(target.admin_key), "--jump", through]
    argv += ["--fingerprint", fingerprint(target)]
    refused(operator.run(*argv, check=False), 4, "jump host", "known_hosts")
    known_hosts(operator, jump)
    # With -i alone later commands could not pass the jump host: that is found out before anything stays.
    refused(operator.run(*argv, check=False), 4, "jump host", "ssh-agent")
    nothing_is_open(target)
    for suffix in ("", ".pub"):
        own = operator.home / ".ssh" / f"id_ed25519{suffix}"
        own.write_bytes(Path(f"{target.admin_key}{suffix}").read_bytes())
        own.chmod(0o600)
    operator.run(*argv)
    (operator.home / ".ssh/known_hosts").unlink()  # from here on the pin counts
    assert takes_commands(operator)
    seen = target.run("journalctl", "--no-pager", "_COMM=sshd").stdout
    assert f"for serverflow from {jump.ip}" in seen
    assert 'jump = "admin@127.0.0.1' in (operator.fleet / "fleet.toml").read_text()

    pins = (operator.fleet / "pins.toml").read_text()
    assert jump.host_key() in pins
    kept = jump.run("sh", "-c", "cat /etc/ssh/ssh_host_ed25519_key").stdout
    jump.run(
        "sh",
        "-c",
        f"rm {HOST_KEY}*; ssh-keygen -q -t ed25519 -N '' -f {HOST_KEY}; systemctl restart ssh",
    )
    try:
        refused(
            operator.run("system", "info", "--on", "web1", check=False), 4, "jump host", "does not match the pinned key"
        )
    finally:
        jump.run(
            "sh",
            "-c",
            f"umask 077; cat >{HOST_KEY}; ssh-keygen -y -f {HOST_KEY} >{HOST_KEY}.pub; systemctl restart ssh",
            input=kept,
        )


def test_a_server_whose_bundle_is_not_the_fleets(fresh_target: Fresh, tmp_path: Path) -> None:
    """A stolen release key brings a server the highest version that there is; then its fleet starts anew."""
    for name in "before", "after":
        (tmp_path / name).mkdir()
    target, before, after = fresh_target(), new_operator(tmp_path / "before"), new_operator(tmp_path / "after")
    before.add("web1", target)
    libexec = "/usr/local/libexec/serverflow"
    foreign = f"cd {libexec}/versions && cp -a 1 7 && ln -sfn {libexec}/versions/7 {libexec}/current && rm -r 1"
    target.run("sh", "-c", f"{foreign} && touch 7/foreign.py")
    (checked,) = before.json("server", "check")["servers"]
    assert any("bundle version 7" in note and "not the fleet's" in note for note in checked["notes"])
    # In the fleet versions still only go up.
    before.run("server", "update", "--yes", check=False)
    before.add("web1", target)
    assert target.run("readlink", f"{libexec}/current").stdout == f"{libexec}/versions/7\n"
    refused(after.add("web1", target, check=False), 3, "another fleet")

    target.run("rm", "-r", "/etc/serverflow/trust")
    after.add("web1", target)
    assert takes_commands(after)
    assert target.run("sh", "-c", f"cd {libexec}/versions && ls && ls */foreign.py", check=False).stdout == "1\n"
    (checked,) = after.json("server", "check")["servers"]
    assert checked["notes"] == []


def test_what_is_missing_is_installed_after_asking(fresh_target: Fresh, fresh_operator: Operator) -> None:
    target, operator = fresh_target(), fresh_operator
    remove = "apt-get -qy purge --allow-remove-essential sudo dbus dbus-daemon python3 'python3*-minimal' python3.11"
    target.run("sh", "-c", f"export DEBIAN_FRONTEND=noninteractive SUDO_FORCE_REMOVE=yes; {remove}")
    found = checksum(target)
    refused(operator.add("web1", target, check=False), 2, "python3", "--yes")
    assert checksum(target) == found
    operator.add("web1", target, "--yes")
    assert takes_commands(operator)
    assert target.run("sh", "-c", "which sudo python3 dbus-daemon | wc -l").stdout == "3\n"


def test_what_is_refused(target: Target, operator: Operator, fresh_target: Fresh, fresh_operator: Operator) -> None:
    fresh = fresh_target()
    kept = fresh.run("cat", "/etc/os-release").stdout
    fresh.run(
        "sh", "-c", "printf 'ID=alpine\\nVERSION_ID=3.20\\nPRETTY_NAME=\"Alpine Linux v3.20\"\\n' >/etc/os-release"
    )
    found = checksum(fresh)
    refused(fresh_operator.add("web1", fresh, check=False), 6, "Alpine Linux v3.20 is not supported", "Debian")
    assert checksum(fresh) == found
    fresh.run("sh", "-c", "cat >/etc/os-release", input=kept)

    refused(fresh_operator.add("web1", target, check=False), 3, "another fleet")
    assert takes_commands(operator)

    # A clone: the same disk started twice.
    copied = "/etc/serverflow/server_id", "/var/lib/serverflow/identity", "/var/lib/serverflow/identity.pub"
    fresh.run("mkdir", "-p", "-m", "700", "/etc/serverflow", "/var/lib/serverflow")
    for path in copied:
        fresh.run("sh", "-c", f"umask 077; cat >{path}", input=target.run("cat", path).stdout)
    refused(operator.add("web2", fresh, check=False), 3, "web1", "copy", "rm -r")
    assert "web2" not in operator.run("server", "list").stdout
    nothing_is_open(fresh)

    # The name of one server for another.
    fresh.run("rm", *copied)
    refused(operator.add("web1", fresh, check=False), 4, "another identity", "--forget")
    assert takes_commands(operator)


def test_sshd_settings_of_the_administrator(fresh_target: Fresh, fresh_operator: Operator) -> None:
    target, operator = fresh_target(), fresh_operator
    target.run(
        "sh",
        "-c",
        "printf 'AllowUsers root admin\\nAllowGroups root admin\\n' >>/etc/ssh/sshd_config; systemctl reload ssh",
    )
    operator.add("web1", target)
    assert takes_commands(operator)
    operator.run("server", "remove", "web1", "--confirm", "web1")

    # No Include: our file alone is read then, and no other drop-in starts to count.
    target.run(
        "sh",
        "-c",
        "cd /etc/ssh; echo PermitRootLogin no >sshd_config.d/z.conf; sed -i /^Incl/d sshd_config; systemctl reload ssh",
    )
    config, before = target.run("cat", "/etc/ssh/sshd_config").stdout, sshd_settings(target, "root")
    operator.add("web1", target)
    assert takes_commands(operator)
    assert sshd_settings(target, "root") == before and root_can_log_in(target)
    operator.run("server", "remove", "web1", "--confirm", "web1")
    assert target.run("cat", "/etc/ssh/sshd_config").stdout == config

    for denied in ("serverflow", "server*"):
        target.run(
            "sh",
            "-c",
            f"cd /etc/ssh; sed -i '1i DenyUsers {denied}' sshd_config; systemctl reload ssh",
        )
        config = target.run("cat", "/etc/ssh/sshd_config").stdout
        refused(operator.add("web1", target, check=False), 6 if denied == "serverflow" else 4)
        nothing_is_open(target)
        assert target.run("cat", "/etc/ssh/sshd_config").stdout == config
        target.run("sed", "-i", "1d", "/etc/ssh/sshd_config")


def test_an_enrolment_that_breaks_sshd_or_cannot_log_in_undoes_itself(
    fresh_target: Fresh, fresh_operator: Operator
) -> None:
    target, operator = fresh_target(), fresh_operator
    target.run("sh", "-c", "echo 'NoSuchKeyword yes' >/etc/ssh/sshd_config.d/50-broken.conf")
    refused(operator.add("web1", target, check=False), 6, "NoSuchKeyword", "broken already")
    nothing_is_open(target)
    target.run("rm", "/etc/ssh/sshd_config.d/50-broken.conf")

    picky = "[ -e /etc/ssh/sshd_config.d/00-serverflow.conf ] && [ $1 = -t ] && { echo I do not like it >&2; exit 1; }"
    wrapper = f'#!/bin/sh\n{picky}\nexec /usr/sbin/sshd.real "$@"\n'
    target.run(
        "sh",
        "-c",
        "mv /usr/sbin/sshd /usr/sbin/sshd.real; cat >/usr/sbin/sshd; chmod 755 /usr/sbin/sshd",
        input=wrapper,
    )
    refused(operator.add("web1", target, check=False), 6, "I do not like it", "all was put back")
    nothing_is_open(target)
    target.run("sh", "-c", "mv /usr/sbin/sshd.real /usr/sbin/sshd; systemctl restart ssh")

    target.run("touch", "/etc/nologin")  # pam_nologin lets in root only
    done = operator.add("web1", target, check=False)
    assert done.returncode in (4, 5) and "sf: error: web1: " in done.stderr
    nothing_is_open(target)
    assert operator.json("server", "list")["data"]["servers"] == []
    target.run("rm", "/etc/nologin")
    operator.add("web1", target)
    assert takes_commands(operator)


def start_and_kill_at(operator: Operator, target: Target, step: int) -> str:
    """Kill `sf` as soon as it reports this step; the line, "" when it was done before."""
    login = f"root@{target.host}:{target.port}"
    known = ["-i", str(target.admin_key), "--fingerprint", fingerprint(target)]
    process = operator.start("-v", "server", "add", "web1", login, *known)
    assert process.stderr
    line = ""
    for _ in range(step + 1):
        line = process.stderr.readline()
    process.kill()
    process.communicate()
    return line.strip() if process.returncode == -signal.SIGKILL else ""


def test_killed_after_each_step_and_run_again(fresh_target: Fresh, fresh_operator: Operator) -> None:
    target, operator = fresh_target(), fresh_operator
    steps: list[str] = []
    while step := start_and_kill_at(operator, target, len(steps)):
        steps.append(step)
        operator.add("web1", target)
        assert takes_commands(operator), step
        operator.run("server", "remove", "web1", "--confirm", "web1")
    told = " ".join(steps)
    for word in (
        "looking at",
        "looking around",
        "placing the runner",
        "signing trust",
        "opening the login",
        "confirming",
    ):
        assert word in told, steps


def armed(operator: Operator, target: Target) -> str:
    """An enrolment whose operator vanishes before it confirms; the op id that waits on the server."""
    target.run("touch", "/etc/nologin")  # root only: the fresh login has to wait
    login = f"root@{target.host}:{target.port}"
    known = ["-i", str(target.admin_key), "--fingerprint", fingerprint(target)]
    process = operator.start("-v", "server", "add", "web1", login, *known)
    assert process.stderr
    while "confirming" not in process.stderr.readline():
        assert process.poll() is None
    process.kill()
    process.communicate()
    target.run("rm", "/etc/nologin")
    assert target.run("ls", *OURS).returncode == 0
    return target.run("cat", "/var/lib/serverflow/safe/pending").stdout


def test_armed_and_cut_off(fresh_target: Fresh, fresh_operator: Operator) -> None:
    target, operator = fresh_target(), fresh_operator
    op = armed(operator, target)
    unit = f"serverflow-rollback-{op.lower()}"
    left = target.run("systemctl", "show", "-P", "NextElapseUSecMonotonic", f"{unit}.timer").stdout.strip()
    assert left not in ("", "infinity"), "the countdown runs on the server"
    target.run("systemctl", "start", f"{unit}.service")  # what the timer starts at the deadline
    gone = "test ! -e /var/lib/serverflow/safe/pending"
    eventually(lambda: target.run("sh", "-c", gone, check=False).returncode == 0, "it is rolled back")
    nothing_is_open(target)
    operator.add("web1", target)
    assert takes_commands(operator)
    operator.run("server", "remove", "web1", "--confirm", "web1")

    armed(operator, target)
    target.power_cut()
    nothing_is_open(target)
    operator.add("web1", target)
    assert takes_commands(operator)
