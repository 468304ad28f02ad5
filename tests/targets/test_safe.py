"""Safe changes by `sf`: kept when they are confirmed, and else undone by the server itself, to the last attribute."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from .attacker import Client, Key
from .operator import eventually
from .pending import begin, reach_deadline, unit, unit_is, until_over, waiting, way_back
from .state import capture, difference
from .target import Fleet, Target
from .test_rekey import colleague
from .victim import STATE, Victim, fresh_victim

Argv = tuple[str, ...]

#: Extended attributes and an ACL: user 65534 may read (acl(5), in the kernel's form).
DRESS = """
import os, struct, sys
entries = (1, 6, 2**32 - 1), (2, 4, 65534), (4, 4, 2**32 - 1), (16, 4, 2**32 - 1), (32, 0, 2**32 - 1)
acl = struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in entries)
for path in sys.argv[1:]:
    os.setxattr(path, "system.posix_acl_access", acl)
    for name in "user.colour", "trusted.colour", "security.colour":
        os.setxattr(path, name, b"blue")
"""
KEYS = "/home/bob/.ssh/authorized_keys"
#: A service of the tests' own, an app's files, and what else goes with an account.
STAGE = f"""
set -e
cd /etc/systemd/system
printf '[Service]\\nExecStart=sleep infinity\\n[Install]\\nWantedBy=multi-user.target\\n' >probe.service
printf '[Service]\\nExecStart=sleep infinity\\n[Install]\\nWantedBy=multi-user.target\\n' >idle.service
printf '[Service]\\nExecStartPre=sleep 40\\nExecStart=sleep infinity\\n' >slow.service
systemctl daemon-reload
systemctl enable --quiet --now probe
cd /srv/shop
install -d -o shop -g shop -m 2750 conf
printf 'colour = red\\n' | install -o shop -g shop -m 640 /dev/stdin conf/settings
ln -s conf link
touch -d 2001-02-03 conf/settings {KEYS}
install -o bob -g mail -m 660 /dev/null /var/mail/bob
"""


@pytest.fixture(scope="module")
def victim(fleet: Fleet, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Victim]:
    folder = tmp_path_factory.mktemp("victim")
    with fresh_victim(fleet, folder) as found:
        bob = Key.make(folder, "bob").line
        for argv in (
            ("redis", "create", "cache"),
            ("app", "create", "shop", "--data", "/srv/shop", "--data", "/srv/more"),
            ("user", "create", "bob", "--key", bob),
        ):
            found.operator.run(*argv, "--on", "victim", "--yes")
        found.target.run("sh", "-c", STAGE)
        found.target.run("/usr/bin/python3", "-c", DRESS, "/srv/shop/conf/settings", KEYS)
        yield found


@pytest.fixture(scope="module")
def ada(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A person's public key."""
    return Key.make(tmp_path_factory.mktemp("key"), "ada").line


@pytest.fixture
def settings(tmp_path: Path) -> str:
    """A local file to put."""
    (tmp_path / "settings").write_text("colour = blue\n")
    return str(tmp_path / "settings")


@pytest.fixture(autouse=True)
def nothing_waits(victim: Victim) -> Iterator[None]:
    """What a test that fails leaves behind is not in the next one's way."""
    yield
    reach_deadline(victim.target)


def run(victim: Victim, *argv: str, exit: int = 0) -> dict[str, Any]:
    """The server's part of the answer, where `sf` ends with this code."""
    done = victim.operator.run("--json", *argv, "--on", "victim", check=False)
    assert done.returncode == exit, f"sf {' '.join(argv)}: exit {done.returncode}\n{done.stdout}{done.stderr}"
    (server,) = json.loads(done.stdout.splitlines()[-1])["servers"]
    return dict(server)


def leave(victim: Victim, *argv: str, within: str = "10m") -> str:
    """A change that is left to wait for confirmation; its operation id."""
    waits = "--no-confirm", "--confirm-within", within
    done = victim.operator.run("--json", *argv, *waits, "--on", "victim", check=False)
    assert done.returncode == 13, done.stdout + done.stderr
    (server,) = json.loads(done.stdout.splitlines()[-1])["servers"]
    assert server["outcome"] == "pending-confirm", server
    return waiting(victim.target)


def refused(victim: Victim, *argv: str) -> str:
    """Why the server does not do it, which leaves everything as it was."""
    before = capture(victim.target)
    server = run(victim, *argv, exit=6)
    assert server.get("changes", []) == [] and waiting(victim.target) == ""
    assert difference(before, capture(victim.target)) == []
    return str(server["error"]["message"])


def ended(victim: Victim, op: str) -> dict[str, Any]:
    """What the history says of it."""
    rows = run(victim, "safe", "history")["data"]["changes"]
    (found,) = (row for row in rows if row["op"] == op)
    return dict(found)


# --- it goes back ----------------------------------------------------------------------------------------------------


def test_what_goes_back_by_itself(victim: Victim, ada: str) -> None:
    """The timer, and not the test, brings the deadline."""
    before = capture(victim.target)
    op = leave(victim, "user", "create", "eve", "--key", ada, "--yes", within="10s")
    assert run(victim, "safe", "status")["data"]["pending"]["op_id"] == op
    assert difference(before, capture(victim.target))
    until_over(victim.target, op)
    assert difference(before, capture(victim.target)) == []
    assert way_back(victim.target, op)["data"] == {"op": op, "problems": []}
    assert (ended(victim, op)["ended"], ended(victim, op)["by"]) == ("rolled-back", "")
    late = victim.operator.run("safe", "confirm", op, "--on", "victim", check=False)
    assert late.returncode == 12, late.stderr
    assert run(victim, "safe", "status")["data"]["pending"] is None
    assert victim.operator.json("audit", "verify", "--against", "victim")["ok"]


BLUE = b"colour = blue\n"
#: Action and parameters; a file's content goes along. KEY and BOB stand for a new key and the one that bob has.
LEAVE: dict[str, tuple[str, dict[str, Any]]] = {
    "user create": ("user.create", {"name": "ada", "key": ["KEY"], "groups": ["mail"], "comment": "Ada"}),
    "user change": ("user.create", {"name": "bob", "key": ["KEY"], "groups": ["mail"], "shell": "/bin/sh"}),
    "user add-key": ("user.add-key", {"name": "bob", "key": "KEY"}),
    "user remove-key": ("user.remove-key", {"name": "bob", "fingerprint": "BOB"}),
    "user remove": ("user.remove", {"name": "bob"}),
    "user remove with home": ("user.remove", {"name": "bob", "purge-home": True}),
    "service stop": ("service.stop", {"unit": "probe.service"}),
    "service disable": ("service.disable", {"unit": "probe.service"}),
    "service start": ("service.start", {"unit": "idle.service"}),
    "service enable": ("service.enable", {"unit": "idle.service"}),
    "service stop ssh": ("service.stop", {"unit": "ssh.service"}),
    "file put": ("file.put", {"app": "shop", "path": "conf/settings"}),
    "file put through new folders": ("file.put", {"app": "shop", "path": "a/b/c"}),
    "app create": ("app.create", {"name": "blog", "data": ["/srv/blog/data", "/home/blog/data"]}),
    "app remove": ("app.remove", {"name": "shop", "purge-data": True}),
    "redis create": ("redis.create", {"name": "cache", "max-memory": "96MiB", "port": 6380}),
    "redis remove": ("redis.remove", {"name": "cache", "purge-data": True}),
    "system timezone": ("system.timezone", {"zone": "Europe/Zurich"}),
    "config sshd": ("config.set", {"kind": "sshd", "content": "MaxAuthTries 3\n"}),
    "config sudoers": ("config.set", {"kind": "sudoers", "content": "bob ALL=(shop) NOPASSWD: /usr/bin/id\n"}),
}


@pytest.mark.parametrize("name", LEAVE)
def test_everything_is_as_it_was(victim: Victim, ada: str, name: str) -> None:
    target, (action, params) = victim.target, LEAVE[name]
    words = {"KEY": ada, "BOB": target.run("ssh-keygen", "-lf", KEYS).stdout.split()[1]}
    params = {
        key: [words.get(word, word) for word in value] if isinstance(value, list) else words.get(value, value)
        for key, value in params.items()
    }
    before = capture(target)
    op = put(victim.client, params) if action == "file.put" else begin(victim.client, action, params)
    assert difference(before, capture(target)), "there is something to put back"
    reach_deadline(target)
    assert difference(before, capture(target)) == []
    assert way_back(target, op)["data"]["problems"] == []
    assert nothing_is_left(target) == []


def test_a_unit_that_was_restarted_too_often_comes_back(victim: Victim) -> None:
    """systemd lets a unit start five times in ten seconds, and says no to a sixth (systemd.unit(5))."""
    target = victim.target
    before = capture(target)
    target.run("systemctl", "reset-failed", "redis-server@cache")
    for _ in range(4):
        target.run("systemctl", "restart", "redis-server@cache")
    op = begin(victim.client, *LEAVE["redis create"])
    reach_deadline(target)
    assert difference(before, capture(target)) == []
    assert way_back(target, op)["data"]["problems"] == []


def put(client: Client, params: dict[str, Any]) -> str:
    """A file, left to wait."""
    sha256 = hashlib.sha256(BLUE).hexdigest()
    with client.session() as session:
        blobs = [{"sha256": sha256, "size": len(BLUE)}]
        session.send_command(session.command("file.put", {**params, "sha256": sha256}, blobs=blobs, confirm_s=600))
        answer = session.echoed(session.answer([BLUE]))
    assert answer.verdict == "pending-confirm", answer.body
    return str(answer.body["op_id"])


def nothing_is_left(target: Target) -> list[str]:
    """Of what safe changes put aside, and of their copies, which may be private keys."""
    looked = (
        f"find / -xdev -name '*.serverflow-*' -not -path '/proc/*'; find {STATE}/safe -mindepth 2 -not -name verdict"
    )
    return target.run("sh", "-c", looked).stdout.split()


# --- it is kept ------------------------------------------------------------------------------------------------------

KEEP: dict[str, Argv] = {
    "user create": ("user", "create", "ada", "--key", "KEY", "--yes"),
    "user remove": ("user", "remove", "ada", "--purge-home", "--confirm", "ada"),
    "service stop": ("service", "stop", "probe", "--safe", "--yes"),
    "service start": ("service", "start", "probe", "--safe", "--yes"),
    "file put": ("file", "put", "shop", "FILE", "conf/settings", "--safe", "--yes"),
    "redis create": ("redis", "create", "cache", "--max-memory", "96MiB", "--safe", "--yes"),
    "app create": ("app", "create", "blog", "--safe", "--yes"),
    "app remove": ("app", "remove", "blog", "--purge-data", "--confirm", "blog", "--safe"),
}


@pytest.mark.parametrize("name", KEEP)
def test_what_is_confirmed_stays(victim: Victim, ada: str, settings: str, name: str) -> None:
    argv = tuple({"KEY": ada, "FILE": settings}.get(word, word) for word in KEEP[name])
    assert run(victim, *argv)["outcome"] == "done"
    assert waiting(victim.target) == ""
    assert nothing_is_left(victim.target) == []
    timers = victim.target.run("systemctl", "list-units", "--plain", "--no-legend", "serverflow-rollback-*").stdout
    assert timers == ""
    again = run(victim, *argv)
    assert (again["outcome"], again["changes"]) == ("unchanged", [])


def test_the_history_tells_who_confirmed(victim: Victim) -> None:
    rows = run(victim, "safe", "history")["data"]["changes"][: len(KEEP)]
    assert {(row["ended"], row["by"]) for row in rows} == {("confirmed", "ana")}


# --- who confirms ----------------------------------------------------------------------------------------------------


def test_confirmed_from_another_machine(victim: Victim, ada: str, tmp_path: Path) -> None:
    other = colleague(victim.operator, tmp_path / "other")
    op = leave(victim, "user", "create", "eve", "--key", ada, "--yes")
    # Until then it is in nobody's way but theirs who would change something.
    for operator in victim.operator, other:
        restart = ("service", "restart", "cron", "--on", "victim", "--yes", "--lock-wait", "0s")
        stopped = operator.run(*restart, check=False)
        assert stopped.returncode == 8 and op in stopped.stderr, stopped.stderr
        assert operator.json("system", "info", "--on", "victim")["ok"]
    shown = run(victim, "safe", "show", op)["data"]
    assert (shown["op"], shown["action"], shown["ended"]) == (op, "user.create", "pending")
    other.run("safe", "confirm", op, "--on", "victim")
    assert waiting(victim.target) == ""
    assert victim.target.run("id", "-un", "eve").stdout == "eve\n"
    assert ended(victim, op)["ended"] == "confirmed"
    undone = victim.operator.run("safe", "rollback", op, "--on", "victim", "--yes", check=False)
    assert undone.returncode == 6, undone.stderr
    run(victim, "user", "remove", "eve", "--purge-home", "--confirm", "eve")


def test_undone_by_hand(victim: Victim, ada: str) -> None:
    before = capture(victim.target)
    op = leave(victim, "user", "create", "eve", "--key", ada, "--yes")
    victim.operator.run("safe", "rollback", op, "--on", "victim", "--yes")
    assert difference(before, capture(victim.target)) == []
    assert (ended(victim, op)["ended"], ended(victim, op)["by"]) == ("rolled-back", "ana")
    shown = victim.operator.run("safe", "show", op, "--on", "victim").stdout
    assert "eve" in shown and "rolled" in shown


def test_two_operators_at_once(victim: Victim, ada: str, tmp_path: Path) -> None:
    """One after the other, or one of them hears of the other: no change is confirmed by whom it does not belong to."""
    other = colleague(victim.operator, tmp_path / "other")
    both = {
        name: operator.start("user", "create", name, "--key", ada, "--on", "victim", "--yes")
        for name, operator in (("eve", victim.operator), ("mallory", other))
    }
    said = {name: process.communicate()[1] for name, process in both.items()}
    codes = {name: process.returncode for name, process in both.items()}
    assert set(codes.values()) <= {0, 8} and 0 in codes.values(), said
    assert waiting(victim.target) == ""
    for name, code in codes.items():
        there = victim.target.run("id", name, check=False).returncode == 0
        assert there == (code == 0), said
        victim.target.run("userdel", "--remove", name, check=not code)


def test_checks_of_ones_own_decide(victim: Victim, ada: str) -> None:
    fleet_toml = victim.operator.fleet / "fleet.toml"
    whole = fleet_toml.read_text()
    checks = '\n[checks.shop]\non = "victim"\nexpect = ["unit probe.service active", "tcp 127.0.0.1:PORT"]\n'
    before = capture(victim.target)
    stop = "service", "stop", "probe", "--safe", "--yes"
    try:
        fleet_toml.write_text(whole + checks.replace("PORT", "1"))
        # What failed before says nothing about the change.
        assert "unit probe.service active" in run(victim, *stop, exit=12)["error"]["message"]
        fleet_toml.write_text(whole + checks.replace("PORT", "22"))
        undone = run(victim, *stop, exit=12)
        assert undone["outcome"] == "rolled-back" and "unit probe.service active" in undone["error"]["message"]
        assert difference(before, capture(victim.target)) == []
        assert run(victim, "file", "put", "shop", os.devnull, "new", "--safe", "--yes")["outcome"] == "done"
    finally:
        fleet_toml.write_text(whole)
    victim.target.run("rm", "/srv/shop/new")


# --- what cannot be done ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "argv",
    [
        ("package", "install", "tree"),
        ("package", "remove", "curl", "--confirm", "curl"),
        ("service", "restart", "probe"),
        ("service", "reload", "probe"),
        ("app", "clear-cache", "shop"),
        ("system", "hostname", "other"),
        ("system", "reboot"),
    ],
    ids=" ".join,
)
def test_what_cannot_be_undone_is_no_safe_change(victim: Victim, argv: Argv) -> None:
    cache = "mkdir -p /srv/shop/cache && chown shop:shop /srv/shop/cache && touch /srv/shop/cache/x"
    victim.target.run("sh", "-c", cache)
    leave_to = () if "--confirm" in argv else ("--yes",)
    before = capture(victim.target)
    done = victim.operator.run(*argv, *leave_to, "--safe", "--on", "victim", check=False)
    assert done.returncode in (2, 6) and "cannot be a safe change" in done.stderr, done.stderr
    planned = victim.operator.run(*argv, "--plan", "--safe", "--on", "victim", check=False)
    assert planned.returncode in (2, 6) and "cannot be a safe change" in planned.stderr, planned.stderr
    assert waiting(victim.target) == "" and difference(before, capture(victim.target)) == []
    victim.target.run("rm", "-r", "/srv/shop/cache")


def test_what_cannot_be_put_back_is_refused(victim: Victim, settings: str) -> None:
    target = victim.target
    put = "file", "put", "shop", settings, "odd", "--safe", "--yes"
    target.run("sh", "-c", "cd /srv/shop && install -o shop -m 600 /dev/null odd && ln odd other")
    assert "hard link" in refused(victim, *put)
    target.run(
        "sh",
        "-c",
        "cd /srv/shop && rm other && install -o shop -m 600 /dev/null /root/odd && mount --bind /root/odd odd",
    )
    assert "mount" in refused(victim, *put)
    target.run("sh", "-c", "umount /srv/shop/odd; rm /srv/shop/odd /root/odd")
    target.run("mount", "-t", "tmpfs", "-o", "size=1m", "more", "/srv/more")
    try:
        remove = "app", "remove", "shop", "--purge-data", "--confirm", "shop", "--safe"
        assert "mount" in refused(victim, *remove)
    finally:
        target.run("umount", "/srv/more")


def test_a_change_that_takes_longer_than_it_may(victim: Victim) -> None:
    before = capture(victim.target)
    start = "service", "start", "slow", "--safe", "--confirm-within", "10s", "--yes"
    server = run(victim, *start, exit=12)
    assert server["outcome"] == "rolled-back"
    assert waiting(victim.target) == ""
    assert difference(before, capture(victim.target)) == []
    assert victim.target.run("systemctl", "is-active", "slow", check=False).stdout == "inactive\n"


# --- what comes in between -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["reboot", "power cut"])
def test_the_server_restarts_while_a_change_waits(victim: Victim, ada: str, how: str) -> None:
    target = victim.target
    before = capture(target)
    if how == "reboot":
        op = leave(victim, "user", "create", "eve", "--key", ada, "--yes")
    else:
        op = leave(victim, "service", "disable", "probe", "--safe", "--yes")
    assert difference(before, capture(target))
    victim.client.close()
    target.reboot() if how == "reboot" else target.power_cut()
    until_over(target, op)
    assert difference(before, capture(target)) == []
    assert way_back(target, op)["data"]["problems"] == []
    assert run(victim, "service", "restart", "cron", "--yes")["outcome"] == "done"


def test_what_others_wrote_meanwhile_is_kept_and_told(victim: Victim, settings: str) -> None:
    target, path = victim.target, "/srv/shop/conf/settings"
    target.run("sh", "-c", f"echo 'colour = red' >{path}")
    before = capture(target)
    op = leave(victim, "file", "put", "shop", settings, "conf/settings", "--safe", "--yes")
    target.run("sh", "-c", f"echo 'colour = green' >{path}")
    reach_deadline(target)
    assert difference(before, capture(target)) == []
    (told,) = way_back(target, op)["data"]["problems"]
    assert path in told and f"{STATE}/kept/" in told
    kept = told.split(" kept as ")[1]
    assert target.run("cat", kept).stdout == "colour = green\n"
    assert target.run("stat", "-c", "%a %U", kept, f"{STATE}/kept").stdout == "640 shop\n700 root\n"
    assert kept in victim.operator.run("safe", "show", op, "--on", "victim").stdout


def test_a_file_changed_by_hand_is_not_silently_overwritten(victim: Victim, settings: str, tmp_path: Path) -> None:
    target, path = victim.target, "/etc/redis/redis-cache.conf"
    target.run("sh", "-c", f"echo '# by hand' >>{path}")
    again = "redis", "create", "cache", "--max-memory", "96MiB"
    planned = run(victim, *again, "--plan")["changes"]
    assert any("changed by hand" in change.get("note", "") for change in planned), planned
    kept = target.run("sh", "-c", f"ls {STATE}/kept", check=False).stdout.split()
    run(victim, *again, "--yes")
    (new,) = set(target.run("ls", f"{STATE}/kept").stdout.split()) - set(kept)
    assert target.run("tail", "-n", "1", f"{STATE}/kept/{new}").stdout == "# by hand\n"
    assert target.run("tail", "-n", "1", path).stdout != "# by hand\n"


def test_extended_attributes_come_back(victim: Victim, ada: str) -> None:
    """The same is compared after every rollback here; this shows that there was something to lose."""
    look = f"import os; print({{name: os.getxattr({KEYS!r}, name) for name in os.listxattr({KEYS!r})}})"
    victim.target.run("/usr/bin/python3", "-c", DRESS, KEYS)
    before = victim.target.run("python3", "-c", look).stdout
    for name in "posix_acl_access", "user.colour", "trusted.colour", "security.colour":
        assert name in before
    leave(victim, "user", "add-key", "bob", Key.make(victim.operator.home, "third").line, "--yes")
    reach_deadline(victim.target)
    assert victim.target.run("python3", "-c", look).stdout == before


# --- a full disk -----------------------------------------------------------------------------------------------------


@pytest.fixture
def small_disk(victim: Victim) -> Iterator[None]:
    """serverflow's state on a disk of its own, of 32 MiB."""
    target = victim.target
    move = f"mkdir /mnt/small && mount -t tmpfs -o size=32m,mode=0700 small /mnt/small && cp -a {STATE}/. /mnt/small"
    target.run("sh", "-c", f"{move} && mount --bind /mnt/small {STATE}")
    yield
    back = f"cp -a /mnt/small/receipts.chain /root/ && umount {STATE} && mv /root/receipts.chain {STATE}/"
    target.run("sh", "-c", f"{back} && umount /mnt/small && rmdir /mnt/small")


def fill(target: Target, folder: str, leave_kib: int = 0) -> None:
    """Until there is no room but for that much."""
    target.run("sh", "-c", f"dd if=/dev/zero bs=4k status=none >>{folder}/fill", check=False)
    if leave_kib:
        target.run("truncate", "-s", f"-{leave_kib}K", f"{folder}/fill")


def test_the_disk_is_full_while_it_is_armed(victim: Victim, small_disk: None, settings: str) -> None:
    """There is room for the command, and none for the copy of what stands there now."""
    target = victim.target
    target.run("sh", "-c", "head -c 8M /dev/urandom | install -o shop -g shop -m 640 /dev/stdin /srv/shop/big")
    fill(target, STATE, leave_kib=4096)
    before = capture(target)
    put = "file", "put", "shop", settings, "big", "--safe", "--yes"
    server = run(victim, *put, exit=6)
    assert server["error"]["code"] == "disk-full", server
    assert waiting(target) == "" and difference(before, capture(target)) == []
    assert nothing_is_left(target) == []
    target.run("rm", f"{STATE}/fill")
    assert run(victim, *put)["outcome"] == "done"
    target.run("rm", "/srv/shop/big")


def test_the_disk_is_full_at_the_deadline(victim: Victim, small_disk: None, settings: str) -> None:
    """Going back writes nothing that was not written before."""
    target = victim.target
    before = capture(target)
    op = leave(victim, "app", "remove", "shop", "--purge-data", "--confirm", "shop", "--safe")
    fill(target, STATE)
    reach_deadline(target)
    assert difference(before, capture(target)) == []
    assert way_back(target, op)["data"]["problems"] == []
    target.run("rm", f"{STATE}/fill")


def test_a_rollback_that_needs_room_ends_once_there_is_some(victim: Victim, settings: str) -> None:
    """The app's data is on another disk than the copies, and that one is full at the deadline."""
    target = victim.target
    target.run("sh", "-c", "mount -t tmpfs -o size=1m,uid=$(id -u shop),gid=$(id -g shop),mode=750 more /srv/more")
    try:
        target.run("sh", "-c", "head -c 300K /dev/urandom | install -o shop -g shop -m 640 /dev/stdin /srv/more/big")
        before = capture(target)
        op = leave(victim, "file", "put", "shop", settings, "/srv/more/big", "--safe", "--yes")
        fill(target, "/srv/more")
        target.run("systemctl", "start", unit(op), check=False)
        eventually(lambda: unit_is(target, op) == "auto-restart", "it is to be tried again")
        assert waiting(target) == op
        late = victim.operator.run("safe", "confirm", op, "--on", "victim", check=False)
        assert late.returncode == 12, late.stderr
        target.run("rm", "/srv/more/fill")
        target.run("systemctl", "restart", unit(op))  # at once, instead of half a minute later
        until_over(target, op)
        assert difference(before, capture(target)) == []
        assert way_back(target, op)["data"]["problems"] == []
    finally:
        target.run("umount", "/srv/more")


# --- validators ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def nginx(victim: Victim) -> Iterator[Victim]:
    victim.operator.run("package", "install", "nginx-light", "--on", "victim", "--yes")
    site = "server { listen 127.0.0.1:8080; location / { return 200 'right'; } }"
    victim.target.run("sh", "-c", f'echo "{site}" >/etc/nginx/conf.d/site.conf; systemctl restart nginx')
    yield victim
    victim.target.run("sh", "-c", "apt-get -qy purge 'nginx*'")


def test_a_broken_nginx_configuration_is_never_read(nginx: Victim) -> None:
    target = nginx.target
    workers = target.run("pgrep", "nginx").stdout
    target.run("sh", "-c", "echo 'worker_colour blue;' >/etc/nginx/conf.d/x.conf")
    for verb in "reload", "restart":
        said = run(nginx, "service", verb, "nginx", "--yes", exit=6)["error"]["message"]
        assert "worker_colour" in said and "/etc/nginx/conf.d/x.conf:1" in said, said
        assert target.run("pgrep", "nginx").stdout == workers
        assert target.run("curl", "-s", "http://127.0.0.1:8080/").stdout == "right"
    target.run("rm", "/etc/nginx/conf.d/x.conf")
    assert run(nginx, "service", "reload", "nginx", "--yes")["outcome"] == "done"
    assert target.run("curl", "-s", "http://127.0.0.1:8080/").stdout == "right"


# --- other releases --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("release", ["debian11", "debian13"])
def test_other_releases(fleet: Fleet, tmp_path: Path, ada: str, release: str) -> None:
    with fresh_victim(fleet, tmp_path, release) as victim:
        before = capture(victim.target)
        for argv in (
            ("user", "create", "ada", "--key", ada, "--yes"),
            ("service", "disable", "cron", "--safe", "--yes"),
        ):
            op = leave(victim, *argv)
            assert difference(before, capture(victim.target))
            victim.target.run("systemctl", "start", unit(op))  # as the timer does
            until_over(victim.target, op)
            assert difference(before, capture(victim.target)) == []
            assert way_back(victim.target, op)["data"]["problems"] == []
        assert run(victim, "user", "create", "ada", "--key", ada, "--yes")["outcome"] == "done"


def test_nothing_of_an_account_that_went_back_survives(victim: Victim, ada: str) -> None:
    """Whoever got the user id next would own it."""
    target = victim.target
    leave(victim, "user", "create", "eve", "--key", ada, "--yes")
    target.run("su", "-s", "/bin/sh", "eve", "-c", "setsid sleep 987 >/dev/null 2>&1 &")
    eventually(lambda: target.run("pgrep", "-u", "eve", check=False).stdout, "something runs as eve")
    op = reach_deadline(target)
    assert target.run("pgrep", "-f", "sleep 987", check=False).stdout == ""
    assert way_back(target, op)["data"]["problems"] == []


def test_a_countdown_that_root_has_stopped_goes_on(victim: Victim, settings: str) -> None:
    """It would wait for ever, and with it every other change."""
    op = leave(victim, "file", "put", "shop", settings, "conf/settings", "--safe", "--yes", within="10s")
    victim.target.run("systemctl", "stop", f"serverflow-rollback-{op.lower()}.timer")
    ended = victim.operator.run(
        "service", "restart", "cron", "--on", "victim", "--yes", "--lock-wait", "0s", check=False
    )
    assert ended.returncode == 8
    until_over(victim.target, op)
    assert run(victim, "service", "restart", "cron", "--yes")["outcome"] == "done"
