"""A hostile action, signed and granted: the sandbox is all that is left. It comes in a bundle that this test makes
of the
installed one and tests/targets/hostile.py.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from .attack import attack
from .attacker import TRUST, encode
from .operator import eventually
from .target import Fleet
from .victim import STATE, Victim, fresh_victim

HOSTILE = Path(__file__).with_name("hostile.py").read_bytes()
TASK = """
from serverflow_actions.kit import action, param
from serverflow_actions.hostile import acts

@action("hostile.{name}", "Hostile", kind="task", params=[{params}])
def task(params, probe):
    yield from ()
    return acts.{act}(probe)
"""
READ = """
from serverflow_actions.kit import action
from serverflow_actions.hostile import acts

@action("hostile.{name}", "Hostile", kind="read")
def read(params, probe):
    return acts.{act}(probe)
"""
KEEPS_SECRET = """
import hashlib
from serverflow_actions.kit import action, param

@action("hostile.secret", "Hostile", kind="task", params=[param("word", "text", "", secret=True)])
def task(params, probe):
    yield from ()
    return {"sha256": hashlib.sha256(params.word.encode()).hexdigest()}
"""

#: What the registry says of each: its profile, and how it differs from service.restart's entry.
APP = {"run_as": "app"}
WRITES = {"writes": ["/srv/hostile"]}
ACTIONS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "svc": ("attempts", "svc", WRITES),
    "cfg": ("attempts", "cfg", WRITES),
    "account": ("attempts", "account", WRITES),
    "pkg": ("attempts", "pkg", WRITES),
    "sql": ("attempts", "sql", WRITES),
    "app": ("attempts", "app", APP),
    "read": ("attempts", "read", {}),
    "read-wide": ("attempts", "read", {"reads": ["/etc"]}),
    "read-journal": ("attempts", "read", {"reads": ["journal"]}),
    "flood": ("flood", "cfg", {}),
    "frames": ("flood_of_frames", "cfg", {}),
    "forks": ("forks", "cfg", {}),
    "memory": ("memory", "cfg", {}),
    "sleeper": ("sleeper", "cfg", {}),
    "lies": ("lies", "cfg", {}),
    "garbage": ("garbage", "cfg", {}),
    "read-forks": ("forks", "read", {}),
    "read-memory": ("memory", "read", {}),
    "read-sleeper": ("sleeper", "read", {}),
    "watch-read": ("watches", "read", {"reads": ["/etc"]}),
    "watch-journal": ("watches", "read", {"reads": ["journal"]}),
    "watch-cfg": ("watches", "cfg", WRITES),
    "watch-account": ("watches", "account", {**WRITES, "accounts": True}),
}


@pytest.fixture(scope="module")
def victim(fleet: Fleet, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Victim]:
    with fresh_victim(fleet, tmp_path_factory.mktemp("victim")) as found:
        _furnish(found)
        yield found


def _furnish(victim: Victim) -> None:
    victim.target.run("mkdir", "/srv/hostile")
    assert victim.client.ask("app.create", {"name": "shop"}).verdict == "done"
    _arm(victim)


def _arm(victim: Victim) -> None:
    """Sign the hostile actions, and grant them."""
    files = victim.bundle_files()
    registry = json.loads(files["registry.json"])
    blank = {**registry["actions"]["service.restart"], "units": [], "locks": [], "timeout": 60, "memory": 128 << 20}
    files |= {"serverflow_actions/hostile/__init__.py": b"", "serverflow_actions/hostile/acts.py": HOSTILE}
    for name, (act, profile, changes) in ACTIONS.items():
        source = READ if profile == "read" else TASK
        params = 'param("name", "name", "")' if changes is APP else ""
        path = f"serverflow_actions/hostile/{name.replace('-', '_')}.py"
        files[path] = source.format(name=name, act=act, params=params).encode()
        kind = "read" if profile == "read" else "task"
        registry["actions"][f"hostile.{name}"] = {
            **blank,
            "module": path[:-3].replace("/", "."),
            "kind": kind,
            "profile": profile,
            **changes,
        }
    files["serverflow_actions/hostile/secret.py"] = KEEPS_SECRET.encode()
    registry["actions"]["hostile.secret"] = {
        **blank,
        "module": "serverflow_actions.hostile.secret",
        "profile": "cfg",
        "secrets": ["word"],
    }
    files["registry.json"] = encode(registry)
    answer = victim.push_bundle(files)
    assert answer.verdict == "done", answer.body
    trust = victim.trust()
    (key,) = trust["roles"]["command"]["keys"]
    hostile = [f"hostile.{name}" for name in (*ACTIONS, "secret")]
    key["grants"] += [{"actions": hostile, "where": {}, "servers": [victim.client.server_id]}]
    trust["version"] += 1
    assert victim.client.push(TRUST, encode(trust), victim.root).verdict == "done"


#: A read asks the system bus for unit states, as any user may: there polkit decides. It may not reach more by it. Nor
#: has it a network of its own, which is what hides abstract sockets.
FOR_ANY_USER = {"an abstract socket"} | {
    f"connect to /run/{socket}"
    for socket in ("dbus/system_bus_socket", "systemd/io.system.ManagedOOM", "systemd/userdb/io.systemd.DynamicUser")
}
#: CAP_DAC_READ_SEARCH: they look at what is there, also at an app's files, but for keys and passwords.
LOOKS = {"read /srv/bank/canary"}
#: What a profile may, of all the acts in hostile.py; and the capabilities that the receipt says were in force.
MAY: dict[str, tuple[set[str], int]] = {
    "svc": (LOOKS, 0x4),
    "pkg": (LOOKS, 0x4),
    "cfg": (LOOKS, 0x1F),
    "account": (LOOKS, 0x1F),
    "sql": (set(), 0),
    "app": (set(), 0),
    "read": (FOR_ANY_USER, 0),
    "read-wide": (FOR_ANY_USER | LOOKS, 0x4),
    "read-journal": (FOR_ANY_USER, 0),
}
PREPARE = """
install -o admin -m 600 /etc/hostname /home/admin/.ssh/id_canary
mkdir -m 750 /srv/bank && install -m 640 /etc/hostname /srv/bank/canary && chown -R admin /srv/bank
systemd-run --quiet --unit=outside python3 -c '
import signal, socket
with socket.socket(socket.AF_UNIX) as server:
    server.bind("\\0canary"); server.listen(); signal.pause()'
"""


@pytest.fixture(scope="module")
def prepared(victim: Victim) -> None:
    """Another app's and another user's files, and a socket, for the acts to try."""
    victim.target.run("sh", "-c", PREPARE)


@pytest.mark.parametrize("name", MAY)
@attack(
    "a forbidden act from inside a sandbox",
    stopped_by="namespaces, capabilities and a system call filter; below the floor nothing runs",
)
def test_from_inside_a_sandbox_nothing_forbidden_works(victim: Victim, prepared: None, name: str) -> None:
    _try_everything(victim, name)


#: In Debian 11 every user may connect there; systemd then asks the kernel who it is.
OLD_SYSTEMD = {"connect to /run/systemd/private"}


def _try_everything(victim: Victim, name: str, old: bool = False) -> None:
    """Every act from inside one profile, and what its receipt says was in force."""
    may, capabilities = MAY[name]
    if old and may >= FOR_ANY_USER:
        may = may | OLD_SYSTEMD
    passwd = victim.target.run("sha256sum", "/etc/passwd", "/etc/shadow").stdout
    with victim.untouched():
        answer = victim.client.ask(f"hostile.{name}", {"name": "shop"} if name == "app" else {})
        assert answer.body["data"].get("tried", 0) > 90, answer.body["message"]
        worked = answer.body["data"]["worked"]
        assert {act: said for act, said in worked.items() if act not in may} == {}
        assert LOOKS & may <= set(worked)
        assert victim.target.run("sha256sum", "/etc/passwd", "/etc/shadow").stdout == passwd
        assert victim.target.run("hostname").stdout.strip() == victim.target.name
    sandbox = answer.body["sandbox"]
    assert sandbox["profile"] == ACTIONS[name][1]
    effective = sandbox["effective"]
    assert (effective["no_new_privs"], effective["seccomp"], int(effective["cap_bnd"], 16)) == (
        True, True, capabilities,
    )  # fmt: skip
    assert effective["uid"] != 0
    if sandbox["profile"] == "read":
        assert effective["read_only"]
        assert int(effective["cap_eff"], 16) == capabilities
    else:
        assert (effective["open"], effective["writable"]) == ([], [])
        assert effective["folders"] == ACTIONS[name][2].get("writes", ["/srv/shop"])


@pytest.mark.parametrize("release", ["debian11", "debian13"])
@attack(
    "a forbidden act from inside a sandbox",
    stopped_by="namespaces, capabilities and a system call filter; below the floor nothing runs",
)
def test_nor_on_other_releases(fleet: Fleet, tmp_path: Path, release: str) -> None:
    """Debian 11 has systemd 247, which knows fewer properties; the floor is the same."""
    with fresh_victim(fleet, tmp_path, release) as victim:
        _furnish(victim)
        victim.target.run("sh", "-c", PREPARE)
        for name in MAY:
            _try_everything(victim, name, old=release == "debian11")


#: As a rotation and useradd do it: the same content under the same name, in another file.
REPLACE_KEY = """
cd /etc/ssh && cp -p ssh_host_ed25519_key .ssh_host_ed25519_key.new && sleep 0.05
mv .ssh_host_ed25519_key.new ssh_host_ed25519_key
"""
REPLACE_SHADOW = "cp -p /etc/shadow /etc/shadow+ && mv /etc/shadow+ /etc/shadow; useradd bystander; userdel bystander"


@pytest.mark.parametrize("name", ["watch-read", "watch-journal", "watch-cfg", "watch-account"])
@attack("a key or password that is replaced while an action looks", stopped_by="hidden with the folder, or held still")
def test_what_is_hidden_stays_hidden_when_it_is_replaced(victim: Victim, name: str) -> None:
    """Renaming a file to a name takes away what is mounted there, in all mount namespaces."""
    target = victim.target
    target.run("sh", "-c", "rm -f /srv/hostile/over /srv/hostile/seen")
    with victim.client.session(shared=False) as session:
        session.send_command(session.command(f"hostile.{name}"))
        eventually(lambda: target.run("pgrep", "-u", "serverflow-read", check=False).stdout, "it looks")
        if name == "watch-account":
            eventually(lambda: "mallory2" in target.run("cat", "/etc/passwd").stdout, "it has replaced them itself")
        for _ in range(5):
            target.run("sh", "-c", REPLACE_KEY)
            if name.startswith("watch-read"):
                target.run("sh", "-c", REPLACE_SHADOW)
        target.run("touch", "/srv/hostile/over")
        answer = session.answer()
    assert answer.verdict == "done", answer.body
    assert answer.body["data"]["seen"] == []
    assert target.run("sh", "-c", "cat /srv/hostile/seen || true").stdout == ""


#: The action, limits that make it quick, and the verdict.
TOO_MUCH: dict[str, tuple[str, dict[str, int], str]] = {
    "output": ("flood", {}, "output-flood"),
    "progress": ("frames", {}, "output-flood"),
    "processes": ("forks", {}, "done"),
    "memory": ("memory", {"memory": 64 << 20}, "out-of-memory"),
    "time, with a child in a session of its own": ("sleeper", {"timeout_s": 1}, "timeout"),
    "processes in a read": ("read-forks", {"timeout_s": 20}, "done"),
    "memory in a read": ("read-memory", {"memory": 64 << 20, "timeout_s": 20}, "out-of-memory"),
    "time in a read, with a child": ("read-sleeper", {"timeout_s": 1}, "timeout"),
}


@pytest.mark.parametrize(("name", "limits", "verdict"), TOO_MUCH.values(), ids=TOO_MUCH)
@attack("output flood", stopped_by="killed at 64 MiB", case="output")
@attack("fork bomb", stopped_by="a limit of processes, and the control group is killed whole", case="processes")
@attack("memory bomb", stopped_by="a limit of memory, without swap", case="memory")
@attack(
    "timeout with a setsid child",
    stopped_by="the control group is killed whole",
    case="time, with a child in a session of its own",
)
def test_whoever_takes_too_much_is_stopped_with_all_its_processes(
    victim: Victim, name: str, limits: dict[str, int], verdict: str
) -> None:
    answer = victim.client.ask(f"hostile.{name}", limits=limits)
    assert answer.verdict == verdict, answer.body
    if "forks" in name:
        assert 1 < answer.body["data"]["processes"] < 1024
    eventually(lambda: not _leftovers(victim), "every process of the run has ended")
    with victim.untouched():
        pass


def _leftovers(victim: Victim) -> str:
    units = victim.target.run("systemctl", "list-units", "--plain", "--no-legend", "serverflow-*").stdout
    processes = victim.target.run(
        "sh", "-c", "ps -eo user:20,args | grep -E '^serverflow-read|worker[.]py' | grep -v grep || true"
    ).stdout
    return units + processes


@pytest.mark.parametrize("name", ["lies", "garbage"])
@attack("an action that lies to its executor", stopped_by="the executor takes bounded frames of known kinds")
def test_frames_that_are_not_what_they_should_be_end_as_a_failure(victim: Victim, name: str) -> None:
    with victim.untouched():
        answer = victim.client.ask(f"hostile.{name}")
        assert (answer.body["outcome"], answer.body["code"]) == ("failed", "action-failed")
    eventually(lambda: not _leftovers(victim), "every process of the run has ended")


# --- secrets ---------------------------------------------------------------------------------------------------------

WORD = "correct horse battery staple"
FRAME = bytes(range(32)) + json.dumps({"word": WORD}).encode()
COMMIT = hashlib.sha256(FRAME).hexdigest()


def _frame(value: Any) -> bytes:
    return os.urandom(32) + encode(value)


#: The frame that arrives, and what was committed to: None is its true hash.
SECRETS: dict[str, tuple[bytes, str | None]] = {
    "a changed byte": (FRAME[:-3] + b"X" + FRAME[-2:], COMMIT),
    "another salt": (bytes(32) + FRAME[32:], COMMIT),
    "none": (b"", COMMIT),
    "a salt alone": (bytes(32), None),
    "a secret that the action does not have": (_frame({"word": "x", "sudo": "yes"}), None),
    "a secret twice": (bytes(32) + b'{"word":"a","word":"b"}', None),
    "a number": (_frame({"word": 1}), None),
    "a list": (_frame([1]), None),
    "9 KiB": (_frame({"word": "x" * 9000}), None),
}  # fmt: skip


@pytest.mark.parametrize(("frame", "commit"), SECRETS.values(), ids=SECRETS)
@attack("swapped secret or blob", stopped_by="its hash in the signed body")
def test_secrets_are_those_that_were_committed_to(victim: Victim, frame: bytes, commit: str | None) -> None:
    with victim.client.session() as session:
        body = session.command("hostile.secret", secrets_commit=commit or hashlib.sha256(frame).hexdigest())
        session.send_command(body, frame)
        assert session.echoed(session.answer()).verdict == "bad-secrets"
    assert not victim.burned(body["op_id"])


def test_a_secret_is_not_taken_from_the_parameters(victim: Victim) -> None:
    assert victim.client.ask("hostile.secret", {"word": WORD}).verdict == "bad-secrets"


@attack("secrets that stay behind", stopped_by="they are in memory only, and in no log, receipt or argument")
def test_a_secret_arrives_and_is_kept_nowhere(victim: Victim) -> None:
    with victim.client.session() as session:
        session.send_command(session.command("hostile.secret", secrets_commit=COMMIT), FRAME)
        answer = session.echoed(session.answer())
    assert answer.verdict == "done", answer.body
    assert answer.body["data"]["sha256"] == hashlib.sha256(WORD.encode()).hexdigest()
    places = [STATE, "/run", "/etc", "/tmp", "/var/log", "/var/tmp"]
    assert victim.target.run("grep", "-rlF", "-D", "skip", WORD, *places, check=False).stdout == ""
