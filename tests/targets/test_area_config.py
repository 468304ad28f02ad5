"""The area config on a real server: what is set is told by the programs that read it."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from .areas import Asked, changed, planned, run, told
from .operator import Operator
from .target import Target, call

SSHD = "/etc/ssh/sshd_config.d/50-serverflow-local.conf"
OTHERS = "/etc/sysctl.d/70-others.conf"
FORWARDING = tuple(f"net.ipv4.conf.{name}.forwarding" for name in ("all", "default", "lo", "eth0"))
FORWARDED = r"^net\.ipv4\.(conf\..*\.(forwarding|accept_redirects)|ip_forward)$"


#: Where managed files lie, and whatever else is there.
_LOOK = (
    "cd /etc; find ssh sysctl.d security systemd logrotate.d apt sudoers.d motd motd.d -printf '%p %m %u %s\\n' "
    "2>/dev/null | sort"
)


@pytest.fixture(autouse=True)
def as_found(operator: Operator, target: Target) -> Iterator[None]:
    before = target.run("sh", "-c", _LOOK).stdout
    yield
    for row in run(operator, "config", "list")["data"]["files"]:
        if row["present"]:
            operator.run("config", "remove", row["kind"], "--on", "web1", "--yes")
    for folder in ("/etc/motd.d", "/etc/systemd/journald.conf.d"):
        target.run("rmdir", "--ignore-fail-on-non-empty", folder, check=False)
    assert target.run("sh", "-c", _LOOK).stdout == before


def apply(operator: Operator, kind: str, content: str) -> list[str]:
    """Twice: the second time it changes nothing."""
    return changed(operator, "config", "apply", kind, "-", "--yes", input=content)


def refused(operator: Operator, *argv: str, input: str | None = None) -> str:
    """By this side already."""
    done = operator.run(*argv, "--on", "web1", "--yes", input=input, check=False)
    assert done.returncode == 2, done.stdout + done.stderr
    return done.stderr


def test_sshd(operator: Operator, target: Target) -> None:
    made = changed(operator, "config", "set", "sshd", "MaxAuthTries=3", "AllowUsers=root admin", "--yes")
    assert made == [f"create file {SSHD}", "run unit ssh.service"]
    effective = target.run("sshd", "-T").stdout.splitlines()
    assert "maxauthtries 3" in effective
    # The login of ServerFlow has a Match block of its own, which wins: it is still let in.
    ours = target.run("sshd", "-T", "-C", "user=serverflow,host=x,addr=10.0.0.1").stdout.splitlines()
    assert [line for line in ours if line.startswith("allowusers")] == ["allowusers serverflow"]
    assert [line for line in ours if line.startswith("allowgroups")] == ["allowgroups serverflow"]

    changed(operator, "config", "set", "sshd", "MaxAuthTries=4", "--yes")
    assert target.run("cat", SSHD).stdout == "MaxAuthTries 4\nAllowUsers root admin\n"
    stanza = (operator.fleet / "fleet.toml").read_text()
    assert (
        '[config.sshd]\non = "web1"\nkind = "sshd"\ncontent = """\nMaxAuthTries 4\nAllowUsers root admin\n"""\n'
        in stanza
    )

    assert changed(operator, "config", "remove", "sshd", "--yes") == [f"delete file {SSHD}", "run unit ssh.service"]
    assert "[config.sshd]" not in (operator.fleet / "fleet.toml").read_text()
    assert "maxauthtries 3" not in target.run("sshd", "-T").stdout


def test_what_sshd_does_not_accept_is_not_kept(operator: Operator, target: Target) -> None:
    """Our check cannot know each algorithm of each release; sshd is asked before it is told to reload."""
    done = operator.run(
        "--json", "config", "set", "sshd", "Ciphers=no-such-cipher", "--on", "web1", "--yes", check=False
    )
    (server,) = json.loads(done.stdout)["servers"]
    assert done.returncode == 12, done.stdout
    assert "Bad SSH2 cipher spec" in server["error"]["message"]
    assert target.run("ls", SSHD, check=False).returncode != 0
    target.run("sshd", "-t")


def test_drift_is_shown_and_kept(operator: Operator, target: Target) -> None:
    apply(operator, "sshd", "MaxAuthTries 3\n")
    target.run("sh", "-c", f"echo MaxAuthTries 5 > {SSHD}")
    listed = {row["kind"]: row for row in run(operator, "config", "list")["data"]["files"]}
    assert (listed["sshd"]["managed"], listed["sshd"]["changed_by_hand"]) == (True, True)
    assert (listed["motd"]["present"], listed["motd"]["managed"]) == (False, False)
    shown = run(operator, "config", "show", "sshd")["data"]
    assert (shown["text"], shown["changed_by_hand"]) == ("MaxAuthTries 5\n", True)
    drift, _ = run(operator, "config", "apply", "sshd", "-", "--plan", input="MaxAuthTries 3\n")["changes"]
    assert "-MaxAuthTries 5\n+MaxAuthTries 3" in drift["diff"]
    assert "changed by hand" in drift["note"]
    apply(operator, "sshd", "MaxAuthTries 3\n")
    kept = target.run(
        "sh", "-c", "cat /var/lib/serverflow/kept/*/* /var/lib/serverflow/kept/* 2>/dev/null", check=False
    )
    assert "MaxAuthTries 5" in kept.stdout


def test_sysctl(operator: Operator, target: Target) -> None:
    target.run("mount", "-o", "remount,bind,rw", "/proc/sys")
    try:
        keys = ("net.ipv4.tcp_fin_timeout", "net.ipv4.tcp_keepalive_time", "net.ipv4.ip_forward", *FORWARDING)
        before = {key: target.run("sysctl", "-n", key).stdout.strip() for key in keys}
        # Another file's value, which somebody has set otherwise since the start.
        target.run("sh", "-c", f"echo net.ipv4.tcp_keepalive_time=7000 > {OTHERS}")
        target.run("sysctl", "-w", "net.ipv4.tcp_keepalive_time=6000")
        file = "/etc/sysctl.d/60-serverflow.conf"
        made = changed(operator, "config", "set", "sysctl", "net.ipv4.tcp_fin_timeout=41", "--yes")
        assert made == [f"create file {file}", f"run sysctl {file}"]
        assert target.run("sysctl", "-n", "net.ipv4.tcp_fin_timeout").stdout == "41\n"
        assert target.run("sysctl", "-n", "net.ipv4.tcp_keepalive_time").stdout == "6000\n"

        pending = start(operator, "sysctl", "net.ipv4.tcp_fin_timeout=42")
        assert target.run("sysctl", "-n", "net.ipv4.tcp_fin_timeout").stdout == "42\n"
        operator.run("safe", "rollback", pending, "--on", "web1", "--yes")
        assert target.run("sysctl", "-n", "net.ipv4.tcp_fin_timeout").stdout == "41\n"
        assert target.run("cat", file).stdout == "net.ipv4.tcp_fin_timeout = 41\n"

        # What the kernel hands on to each interface goes back one by one: one of them differs.
        for key, value in zip(FORWARDING, "0001", strict=True):
            target.run("sysctl", "-w", f"{key}={value}")
        found = target.run("sysctl", "-a", "-r", FORWARDED).stdout
        pending = start(operator, "sysctl", "net.ipv4.ip_forward=1")
        assert {target.run("sysctl", "-n", key).stdout for key in FORWARDING} == {"1\n"}
        operator.run("safe", "rollback", pending, "--on", "web1", "--yes")
        assert target.run("sysctl", "-a", "-r", FORWARDED).stdout == found
    finally:
        target.run("rm", "-f", OTHERS)
        for key, value in before.items():
            target.run("sysctl", "-w", f"{key}={value}")
        target.run("mount", "-o", "remount,bind,ro", "/proc/sys")


def test_values_that_the_kernel_does_not_take(operator: Operator, target: Target) -> None:
    """Here /proc/sys is read-only."""
    before = target.run("sysctl", "-n", "net.ipv4.tcp_fin_timeout").stdout
    argv = ("config", "set", "sysctl", "net.ipv4.tcp_fin_timeout=43", "--on", "web1", "--yes")
    done = operator.run("--json", *argv, check=False)
    assert done.returncode == 12, done.stdout + done.stderr
    assert "read-only" in json.loads(done.stdout)["servers"][0]["error"]["message"]
    assert target.run("ls", "/etc/sysctl.d/60-serverflow.conf", check=False).returncode != 0
    assert target.run("sysctl", "-n", "net.ipv4.tcp_fin_timeout").stdout == before


def start(operator: Operator, kind: str, setting: str) -> str:
    """Make a change that waits for confirmation; its operation."""
    done = operator.run("--json", "config", "set", kind, setting, "--on", "web1", "--yes", "--no-confirm", check=False)
    assert done.returncode == 13, done.stdout + done.stderr
    (server,) = json.loads(done.stdout)["servers"]
    return str(server["op_id"])


def test_a_sysctl_that_is_unknown(operator: Operator, target: Target) -> None:
    assert "vm.swapiness is not among" in refused(operator, "config", "set", "sysctl", "vm.swapiness=10")
    assert target.run("ls", "/etc/sysctl.d/60-serverflow.conf", check=False).returncode != 0


def test_sudoers(operator: Operator, target: Target) -> None:
    target.run("useradd", "deployer")
    try:
        rule = "deployer ALL=(root) NOPASSWD: /usr/bin/systemctl restart cron.service\n"
        assert apply(operator, "sudoers", f"# deploys\n{rule}") == ["create file /etc/sudoers.d/serverflow-local"]
        target.run("visudo", "-c")
        assert "NOPASSWD: /usr/bin/systemctl restart cron.service" in target.run("sudo", "-l", "-U", "deployer").stdout
        facts = target.run("stat", "-c", "%a %U:%G", "/etc/sudoers.d/serverflow-local").stdout
        assert facts == "440 root:root\n"
        assert run(operator, "config", "show", "sudoers")["data"]["text"] == f"# deploys\n{rule}"
    finally:
        target.run("userdel", "--remove", "deployer", check=False)


def test_logrotate(operator: Operator, target: Target, tmp_path: Path) -> None:
    content = "/var/log/shop/*.log {\n    weekly\n    rotate 8\n    create 0640 root adm\n    missingok\n}\n"
    local = tmp_path / "shop"
    local.write_text(content)
    made = changed(operator, "config", "apply", "logrotate", str(local), "--yes")
    assert made == ["create file /etc/logrotate.d/serverflow"]
    assert target.run("cat", "/etc/logrotate.d/serverflow").stdout == content
    if target.run("sh", "-c", "command -v logrotate", check=False).returncode == 0:
        said = target.run("sh", "-c", "logrotate -d /etc/logrotate.d/serverflow 2>&1").stdout
        assert "rotating pattern: /var/log/shop/*.log  weekly (8 rotations)" in said and "error" not in said


@pytest.mark.parametrize(
    ("kind", "content", "made", "proof", "said"),
    [
        (
            "limits",
            "* hard nofile 1234\n",
            ["create file /etc/security/limits.d/60-serverflow.conf"],
            "su -s /bin/sh -c 'ulimit -Hn' nobody",
            "1234",
        ),
        (
            "journald",
            "[Journal]\nSystemMaxUse=77M\n",
            ["create file /etc/systemd/journald.conf.d/60-serverflow.conf", "run unit systemd-journald.service"],
            "systemd-analyze cat-config systemd/journald.conf",
            "SystemMaxUse=77M",
        ),
        (
            "unattended-upgrades",
            'APT::Periodic::Unattended-Upgrade "1";\nUnattended-Upgrade::Allowed-Origins {\n  "a:b";\n};\n',
            ["create file /etc/apt/apt.conf.d/52serverflow"],
            "apt-config dump",
            'Unattended-Upgrade::Allowed-Origins:: "a:b";',
        ),
        ("motd", "Production: ask ana.\n", ["create file /etc/motd.d/60-serverflow"], "cat /etc/motd.d/*", "ask ana."),
    ],
)
def test_the_other_kinds(
    operator: Operator, target: Target, kind: str, content: str, made: list[str], proof: str, said: str
) -> None:
    assert apply(operator, kind, content) == made
    assert said in target.run("sh", "-c", proof).stdout
    assert run(operator, "config", "show", kind)["data"]["text"] == content
    assert operator.run("plan", "--check", "--only", "config").returncode == 0


@pytest.mark.parametrize(
    ("kind", "content", "why"),
    [
        ("sshd", "Match User root\n", "sshd: line 1: Match is not among"),
        ("sudoers", "serverflow ALL=(ALL) ALL\n", "sudoers: line 1: is about serverflow"),
        ("motd", "\x1b]0;x\x07", "motd: must be text"),
    ],
)
def test_what_may_not_stand_there_is_refused_on_both_sides(
    operator: Operator, target: Target, kind: str, content: str, why: str
) -> None:
    assert why in refused(operator, "config", "apply", kind, "-", input=content)
    done = operator.run(
        "--json", "action", "run", "config.set", f"kind={kind}", f"content={content}", "--on", "web1", "--yes",
        check=False,
    )  # fmt: skip
    assert done.returncode in (2, 6), done.stdout + done.stderr
    assert why.partition(": ")[2][:20] in done.stdout + done.stderr


def test_the_sandbox_opens_the_folder_of_the_kind_alone(operator: Operator, target: Target) -> None:
    """Also where most of the folder around it is hidden, as host keys and old passwords are."""
    run(operator, "config", "apply", "limits", "-", "--yes", input="* hard core 0\n")
    run(operator, "config", "apply", "sshd", "-", "--yes", input="MaxAuthTries 3\n")
    chain = target.run("cat", "/var/lib/serverflow/receipts.chain").stdout.splitlines()
    receipts = [json.loads(json.loads(line)["body"]) for line in chain]
    opened = [body["sandbox"]["effective"]["folders"] for body in receipts if body.get("action") == "config.set"]
    assert opened[-2:] == [["/etc/security/limits.d"], ["/etc/ssh/sshd_config.d"]]


def test_edit(operator: Operator, target: Target, tmp_path: Path) -> None:
    script = tmp_path / "editor"
    editing = Operator(operator.home, operator.fleet, {"EDITOR": f"sh {script}"})
    script.write_text("exit 0\n")
    assert "nothing changed" in editing.run("config", "edit", "sshd", "--on", "web1", "--yes").stderr
    script.write_text("exit 3\n")
    done = editing.run("config", "edit", "sshd", "--on", "web1", "--yes", check=False)
    assert done.returncode == 1 and "failed (exit code 3); nothing was done" in done.stderr
    script.write_text("echo Match all > $1\n")
    done = editing.run("config", "edit", "sshd", "--on", "web1", "--yes", check=False)
    assert done.returncode == 2 and "line 1: Match" in done.stderr
    assert "[config." not in (operator.fleet / "fleet.toml").read_text()

    script.write_text("echo LogLevel VERBOSE >> $1\n")
    asked = Asked(editing, "config", "edit", "sshd", "--on", "web1")
    assert "+LogLevel VERBOSE" in asked.said
    assert asked.answer("y") == 0, asked.said
    assert "loglevel VERBOSE" in target.run("sshd", "-T").stdout
    # What was there is what the editor begins with.
    editing.run("config", "edit", "sshd", "--on", "web1", "--yes")
    assert target.run("cat", SSHD).stdout == "LogLevel VERBOSE\n" * 2


def test_a_port_that_nobody_can_reach_goes_back(operator: Operator, target: Target) -> None:
    """sf connects where fleet.toml says: with sshd elsewhere there is no new connection, and so no confirmation."""
    started = time.monotonic()
    done = operator.run(
        "config", "set", "sshd", "Port=2022", "--on", "web1", "--yes", "--confirm-within", "15s", check=False
    )
    assert done.returncode == 12, done.stdout + done.stderr
    assert time.monotonic() - started > 10
    assert target.run("ls", SSHD, check=False).returncode != 0
    assert told(run(operator, "system", "info")) == []


def test_planned_is_not_done(operator: Operator, target: Target) -> None:
    assert planned(operator, "config", "set", "sshd", "MaxAuthTries=3") == [
        f"create file {SSHD}",
        "run unit ssh.service",
    ]
    assert target.run("ls", SSHD, check=False).returncode != 0
    assert "[config." not in (operator.fleet / "fleet.toml").read_text()


@pytest.mark.parametrize("release", ["old_target", "new_target"])
def test_other_releases(request: pytest.FixtureRequest, fresh_operator: Operator, release: str) -> None:
    """Where systemd, sshd and PAM are older or newer: what is hidden around a folder, and what reads the file."""
    server: Target = request.getfixturevalue(release)
    fresh_operator.add("web1", server)
    try:
        for kind, content in (
            ("sshd", "MaxAuthTries 3\n"),
            ("limits", "* hard nofile 1234\n"),
            ("journald", "[Journal]\nSystemMaxUse=77M\n"),
            ("motd", "Production: ask ana.\n"),
        ):
            apply(fresh_operator, kind, content)
        assert "maxauthtries 3" in server.run("sshd", "-T").stdout
        assert server.run("su", "-s", "/bin/sh", "-c", "ulimit -Hn", "nobody").stdout == "1234\n"
        login = call(
            "ssh", "-tt", "-F", "none", "-i", server.admin_key, "-o", "UserKnownHostsFile=/dev/null",
            "-o", "StrictHostKeyChecking=no", "-p", str(server.port), f"admin@{server.host}", input="exit\n",
        )  # fmt: skip
        assert "Production: ask ana." in login.stdout
    finally:
        for kind in ("sshd", "limits", "journald", "motd"):
            fresh_operator.run("config", "remove", kind, "--on", "web1", "--yes")
        fresh_operator.run("server", "remove", "web1", "--confirm", "web1")
