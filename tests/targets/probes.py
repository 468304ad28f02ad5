"""What a server does when it is tried, in a word: each probe tells the true runner from one with a step missing."""

from __future__ import annotations

import hashlib
import select
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from .attacker import COMMAND, TRUST, Key, L, Session, Sig, encode, framed, new_op, signed
from .operator import eventually
from .victim import STATE, Victim

Probe = Callable[[Victim], str]
Body = dict[str, Any]

CRON = {"unit": "cron"}
#: Keys that the tests make: `ci` may restart cron only, `planner` may add jobs only, `past` has expired, `stranger` is
#: in no trust file.
KEYS = ("ci", "planner", "past", "stranger")
NEUTRAL = b"\1" + bytes(31)  # the point of order 1; the trust file lists it as a key
RUN_UNITS = "/etc/systemd/system/serverflow-run-.service.d"


def key(victim: Victim, name: str) -> Key:
    return Key(victim.operator.home / name)


def restart(change: Callable[[Body], Body] = lambda body: {}, who: str = "") -> Probe:
    """A restart of cron, right but for `change`, signed by the operator's key or another one."""

    def probe(victim: Victim) -> str:
        with victim.client.session() as session:
            body = session.command("service.restart", CRON)
            session.send_command({**body, **change(body)}, key=key(victim, who) if who else None)
            return session.answer().verdict

    return probe


def signature(change: Callable[[Sig], Sig]) -> Probe:
    """A right command whose SSHSIG has other fields."""

    def probe(victim: Victim) -> str:
        with victim.client.session() as session:
            body = encode(session.command("service.restart", CRON))
            session.send(framed(signed(body, change(Sig.by(session.client.key, COMMAND, body)).blob())) + framed(b""))
            return session.answer().verdict

    return probe


def raw_body(change: Callable[[bytes], bytes]) -> Probe:
    """A right command whose JSON is changed before it is signed."""

    def probe(victim: Victim) -> str:
        with victim.client.session() as session:
            session.send_command(change(encode(session.command("service.restart", CRON))))
            return session.answer().verdict

    return probe


def plus_l(sig: Sig) -> Sig:
    s = int.from_bytes(sig.signature[32:], "little") + L
    return replace(sig, signature=sig.signature[:32] + s.to_bytes(32, "little"))


def nobodys(sig: Sig) -> Sig:
    """R = 1·B and S = 1: right for every message where the key is the neutral element."""
    base = b"\x58" + b"\x66" * 31
    return Sig(NEUTRAL, base + (1).to_bytes(32, "little"), sig.namespace)


def schedules(victim: Victim) -> str:
    """Whoever may schedule, and nothing else, schedules a restart."""
    params = {"name": "planned", "schedule": "@daily", "action": "service.restart", "params": ["unit=cron"]}
    with victim.client.session() as session:
        session.send_command(session.command("cron.add", params), key=key(victim, "planner"))
        return session.answer().verdict


def too_long(victim: Victim) -> str:
    """A frame of more than 1 MiB by root, whose content is of no use: is it read at all?"""
    body = encode({"v": 1}) + b" " * (1 << 20)
    with victim.client.session() as session:
        session.send(framed(signed(body, victim.root.sshsig(TRUST, body))))
        return session.answer().verdict


def _right_frame(session: Session) -> bytes:
    body = encode(session.command("service.restart", CRON))
    return framed(signed(body, session.client.key.sshsig(COMMAND, body))) + framed(b"")


def in_pieces(victim: Victim) -> str:
    """Networks cut frames anywhere."""
    with victim.client.session() as session:
        frame = _right_frame(session)
        session.send(frame[:300])
        assert victim.client.ask("system.info").verdict == "done"  # the first piece was there long before the second
        assert session.process.stdout
        if not select.select([session.process.stdout], [], [], 0)[0]:
            session.send(frame[300:])
        return session.answer().verdict


def slowly(victim: Victim) -> str:
    """A byte, and the rest after the deadline of 10 s."""
    with victim.client.session(shared=False) as session:
        frame = _right_frame(session)
        session.send(frame[:1])
        assert session.process.stdout
        if not select.select([session.process.stdout], [], [], 12)[0]:
            session.send(frame[1:])
        return session.answer().verdict


def secrets(victim: Victim) -> str:
    """Secrets that are not those that were committed to."""
    with victim.client.session() as session:
        frame = bytes(32) + b"{}"
        session.send_command(session.command("service.restart", CRON, secrets_commit="00" * 32), frame)
        return session.answer().verdict


def hostile_unit(victim: Victim) -> str:
    """Whether an operation was burned for a parameter that is outside its grammar."""
    op = new_op()
    victim.client.ask("service.restart", {"unit": "../cron"}, op_id=op)
    return "burned" if victim.burned(op) else "not burned"


def outside(victim: Victim) -> str:
    """A file that is none of the app's."""
    return victim.client.ask("file.show", {"app": "shop", "path": "/etc/passwd"}).verdict


def blob(victim: Victim) -> str:
    """The content has another hash than the command says; how often it reached the action."""
    sha256 = hashlib.sha256(b"right").hexdigest()
    op = new_op()
    with victim.client.session() as session:
        params = {"app": "shop", "path": "x", "sha256": sha256}
        session.send_command(session.command("file.put", params, op_id=op, blobs=[{"sha256": sha256, "size": 5}]))
        session.answer([b"wrong"])
    return "burned" if victim.burned(op) else "not burned"


def two_at_once(victim: Victim) -> str:
    """The second operator's verdict while the first one's change is at work."""
    victim.target.run("rm", "-f", "/run/go")
    with victim.client.session(shared=False) as first:
        first.send_command(first.command("service.restart", {"unit": "slow"}))
        eventually(lambda: _state(victim, "slow") == "activating", "slow starts")
        second = victim.client.ask("service.restart", CRON, limits={"lock_wait_s": 0}).verdict
        victim.target.run("touch", "/run/go")
        assert first.answer().verdict == "done"
    return second


def _state(victim: Victim, unit: str) -> str:
    return victim.target.run("systemctl", "show", "--property=ActiveState", "--value", unit).stdout.strip()


def twice(victim: Victim) -> str:
    """One op id sent twice, each time rightly signed for its connection."""
    op, before = new_op(), victim.canary()
    assert victim.client.ask("service.restart", CRON, op_id=op).verdict == "done"
    once = victim.canary()
    with victim.client.session() as session:
        session.send_command(session.command("service.restart", CRON, op_id=op))
        session.answer()
    assert once != before
    return "once" if victim.canary() == once else "twice"


UNCONFIRMED = """
import sys
sys.path.insert(0, "/usr/local/libexec/serverflow/current")
import safe
safe.begin(sys.argv[1], "test", 600, {"paths": ["/etc/precious"], "after": []})
open("/etc/precious", "w").write("changed")
"""


def unconfirmed(victim: Victim) -> str:
    """What is left of a safe change when its time is over, without waiting for it."""
    op, target = new_op(), victim.target
    target.run("tee", "/etc/precious", input="precious")
    try:
        target.run("/usr/bin/python3", "-IS", "-c", UNCONFIRMED, op)
        service = f"serverflow-rollback-{op.lower()}.service"
        target.run("systemctl", "start", service, check=False)
        eventually(lambda: _state(victim, service) not in ("active", "activating"), "the rollback has ended")
        return target.run("cat", "/etc/precious").stdout
    finally:
        target.run("systemctl", "stop", f"serverflow-rollback-{op.lower()}.timer", check=False)
        target.run("sh", "-c", f"rm -rf {STATE}/safe/* /etc/precious")


def less_than_the_floor(victim: Victim) -> str:
    """A server that gives the sandbox more than it should: here an administrator's drop-in."""
    drop_in = "[Service]\nCapabilityBoundingSet=CAP_SYS_ADMIN\n"
    victim.target.run("sh", "-c", f"mkdir {RUN_UNITS} && cat > {RUN_UNITS}/more.conf", input=drop_in)
    victim.target.run("systemctl", "daemon-reload")
    try:
        return restart()(victim)
    finally:
        victim.target.run("rm", "-r", RUN_UNITS)
        victim.target.run("systemctl", "daemon-reload")


def limit(name: str, value: int, prop: str) -> Probe:
    """What systemd says of a running action whose command asks for more than the action has."""

    def probe(victim: Victim) -> str:
        victim.target.run("rm", "-f", "/run/go")
        op = new_op()
        with victim.client.session(shared=False) as session:
            session.send_command(session.command("service.restart", {"unit": "slow"}, op_id=op, limits={name: value}))
            eventually(lambda: _state(victim, "slow") == "activating", "slow starts")
            unit = f"serverflow-run-{op.lower()}.service"
            found = victim.target.run("systemctl", "show", f"--property={prop}", "--value", unit).stdout.strip()
            victim.target.run("touch", "/run/go")
            assert session.answer().verdict == "done"
        return found

    return probe


def kept(victim: Victim) -> str:
    """Whether the chain has what was receipted."""
    before = victim.chain_length()
    assert restart()(victim) == "done"
    return f"{victim.chain_length() - before} more"


def linked(victim: Victim) -> str:
    """Whether a receipt names the one before it."""
    last = victim.target.run("tail", "-n", "1", f"{STATE}/receipts.chain").stdout.rstrip("\n")
    answer = victim.client.ask("service.restart", CRON)
    return "linked" if answer.body["prev_receipt"] == hashlib.sha256(last.encode()).hexdigest() else "not linked"


def as_receipt(victim: Victim) -> str:
    """A command that was signed for another purpose."""
    with victim.client.session() as session:
        body = encode(session.command("service.restart", CRON))
        session.send(framed(signed(body, session.client.key.sshsig("receipt.v1@serverflow", body))) + framed(b""))
        return session.answer().verdict


def other_unit(victim: Victim) -> str:
    """`ci` may restart cron only."""
    with victim.client.session() as session:
        session.send_command(session.command("service.restart", {"unit": "other"}), key=key(victim, "ci"))
        return session.answer().verdict
